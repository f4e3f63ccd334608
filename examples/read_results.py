"""Print a table of a sweep's trials from its result files, with the standard library alone.

    python examples/read_results.py results/quickstart

docs/result-format.md describes the files.
"""

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = ("task", "method", "kind", "status", "epochs", "val", "test", "configuration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the sweep's folder")
    folder = parser.parse_args().folder
    results = [json.loads(path.read_text()) for path in (folder / "trials").glob("*.json")]
    results.sort(key=order)
    rows = [COLUMNS, *map(row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join(map(str.ljust, cells, widths)).rstrip())


def order(result: dict[str, Any]) -> tuple[str, str, str, bool, float]:
    """By task and method; finals first, then the best validation accuracy."""
    validated = result["val_accuracy"]
    return (
        result["task"],
        result["method"],
        result["kind"],
        validated is None,
        -(validated or 0),
    )


def row(result: dict[str, Any]) -> tuple[str, ...]:
    config = " ".join(f"{name}={value}" for name, value in result["config"].items())
    return (
        result["task"],
        result["method"],
        result["kind"],
        result["status"],
        str(result["epochs_run"]),
        percent(result["val_accuracy"]),
        percent(result["test_accuracy"]),
        config,
    )


def percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.1f}"


if __name__ == "__main__":
    main()
