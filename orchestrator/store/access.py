"""The record of test splits that were opened: a line of test_access.jsonl for each."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class SplitAccess:
    """One opening of a test split.

    time: UTC, ISO 8601. purpose: final, leak meter or pictures. trials: ids of the finals.
    process: id of the worker's process.
    """

    time: str
    purpose: str
    task: str
    study: str
    pack: str
    trials: tuple[str, ...]
    process: int

    def line(self) -> bytes:
        """As a line of JSON."""
        return json.dumps(asdict(self)).encode()
