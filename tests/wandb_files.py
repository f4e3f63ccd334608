"""Reads W&B's offline files back."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from orchestrator.tracking.journal import records


@dataclass
class Run:
    """What one offline run says."""

    folder: Path
    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    exit_code: int | None = None


def runs(folder: Path) -> list[Run]:
    """All offline runs in a `wandb` folder."""
    return [read(path) for path in sorted(folder.glob("offline-run-*/*.wandb"))]


def read(path: Path) -> Run:
    """One run from its `.wandb` file."""
    run = Run(path.parent)
    for content in records(path.read_bytes()):
        record = Record.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            body = record.run
            run.id, run.name, run.project = body.run_id, body.display_name, body.project
            run.group, run.job_type, run.tags = body.run_group, body.job_type, list(body.tags)
            run.config.update(_items(body.config.update))
        elif kind == "config":
            run.config.update(_items(record.config.update))
        elif kind == "history":
            run.history.append(
                {k: v for k, v in _items(record.history.item).items() if not k.startswith("_")}
            )
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "metric":
            run.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "alert":
            run.alerts.append(record.alert.text)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    run.config.pop("_wandb", None)
    return run


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
