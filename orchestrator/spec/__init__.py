"""The sweep file: YAML -> a typed, validated Spec. Every fault is found before anything runs."""

from orchestrator.spec.faults import nearest
from orchestrator.spec.file import dump, load, load_resolved, read, resolve
from orchestrator.spec.model import ProtocolSpec, Spec

__all__ = ["ProtocolSpec", "Spec", "dump", "load", "load_resolved", "nearest", "read", "resolve"]
