"""The leaderboard's rows as CSV, for spreadsheets and data frames."""

import csv
import io
from dataclasses import asdict

from orchestrator.leaderboard.board import Board, Row, plain_reference


def rows_csv(board: Board) -> str:
    """The rows as CSV, a column for each hyperparameter that occurs."""
    hyper = sorted({name for row in board.rows for name in row.config or ()})
    columns = ["sweep"] if any(row.sweep for row in board.rows) else []
    columns += ["backbone", "method", "task", "group", "test_accuracy", "test_std", "test_seeds"]
    columns += ["test_ci95_low", "test_ci95_high", "best", "ties_with_best"]
    if any(row.metric for row in board.rows):
        columns += ["metric"]
    if any(row.best_on_test for row in board.rows):
        columns += ["best_on_test", "best_on_test_gap"]
    if any(row.quality for row in board.rows):
        columns += ["test_balanced_accuracy", "test_ece", "test_nll", "test_predictions"]
    columns += ["val_accuracy", "val_standard_error", "val_within_one_se", "val_tied_at_top"]
    columns += [*hyper, "trainable_params", "adapter_params", "trials", "seconds"]
    if any(row.cost for row in board.rows):
        columns += ["final_seconds", "final_images_per_second"]
        columns += ["final_peak_memory", "final_energy"]
    if any(row.published or row.retuned for row in board.rows):
        columns += ["published", "published_difference", "published_protocol"]
        columns += ["published_weights", "published_same_weights", "published_source"]
        columns += ["retuned", "retuned_difference", "retuned_best_epoch_on_test"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in board.rows:
        writer.writerow(_cells(row))
    return text.getvalue()


def _cells(row: Row) -> dict[str, object]:
    """A row by the names of the CSV's columns."""
    cells: dict[str, object] = {**asdict(row), **(row.config or {}), "test_accuracy": None}
    cells["test_seeds"] = 0
    if test := row.test_accuracy:
        cells |= {"test_accuracy": test.mean, "test_std": test.std, "test_seeds": test.n}
        cells["test_ci95_low"], cells["test_ci95_high"] = test.ci95 or (None, None)
    cells["best_on_test"] = None
    if metered := row.best_on_test:
        cells |= {"best_on_test": metered.mean, "best_on_test_gap": metered.gap}
    if kept := row.quality:
        cells |= {"test_balanced_accuracy": kept.balanced_accuracy, "test_ece": kept.ece}
        cells |= {"test_nll": kept.nll, "test_predictions": kept.n}
    if row.cost:
        cells |= {f"final_{name}": value for name, value in asdict(row.cost).items()}
    if row.ties:
        cells |= {f"val_{name}": count for name, count in asdict(row.ties).items()}
    for kind, reference in (("published", row.published), ("retuned", row.retuned)):
        known = plain_reference(reference) or {}
        cells |= {f"{kind}_{name}": value for name, value in known.items()}
        cells[kind] = known.get("accuracy")
    return cells
