"""What trials and leaderboards look like as W&B runs: names, config, rows, tables, artifacts.

`run` is a wandb.Run throughout; wandb itself is imported only where something is logged.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arc_train.hyperparameters.space import format_config, format_value
from arc_train.outcome import CurveRow
from orchestrator.leaderboard.board import Board, Mean, Row
from orchestrator.store.result import Result, TrialInfo

TAG_LENGTH = 64  # W&B refuses longer ones


def about_trial(trial: TrialInfo, group: str | None) -> dict[str, Any]:
    """How a trial's run is found and grouped; needs no more than is known before it is trained.

    group: of its task; None where that is no longer part of the sweep.
    """
    tags = (*([group] if group else []), trial.method, trial.backbone)
    return {
        "id": trial.id,
        "name": _name(trial),
        "group": str(trial.study),
        "job_type": trial.kind,
        "tags": [tag[:TAG_LENGTH] for tag in tags],
    }


def config(result: Result, group: str | None) -> dict[str, Any]:
    """A run's configuration; flat, since W&B's tables filter by single keys."""
    plain = ("kind", "backbone", "method", "task", "seed", "device")
    return {
        "task_group": group,
        **{key: getattr(result, key) for key in plain},
        **result.config,
        **{f"data_{key}": value for key, value in asdict(result.data).items()},
        **{f"code_{key}": value for key, value in asdict(result.code).items()},
        **{f"package_{key}": value for key, value in result.packages.items()},
    }


def summary(result: Result) -> dict[str, Any]:
    """A run's summary; `note` is always there, so a repaired trial loses its failure's."""
    outcome = ("status", "epochs_run", "val_accuracy", "val_loss", "test_accuracy")
    size = ("trainable_params", "adapter_params", "seconds")
    found = {key: getattr(result, key) for key in (*outcome, *size)}
    known = {key: value for key, value in found.items() if value is not None}
    return known | {"note": result.note or ""}


def log_rows(run: Any, rows: Iterable[CurveRow]) -> None:
    """Rows of a curve by epoch; those that the run has already are dropped by the client."""
    for row in rows:
        known = {name: value for name, value in row._asdict().items() if value is not None}
        run.log(known, step=row.epoch, commit=True)


def log_adapter(run: Any, result: Result, path: Path) -> None:
    """What a final learned, as a version of its study's artifact."""
    import wandb

    study = f"{result.backbone}-{result.method}-{result.task}"
    artifact = wandb.Artifact(
        re.sub(r"[^\w.-]", "-", study)[-128:],
        type="adapter",
        metadata={"seed": result.seed, **result.config},
    )
    # The file is ours and doesn't change: no second copy of it in W&B's staging folder and cache.
    artifact.add_file(str(path), name="adapter.safetensors", policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=[f"seed{result.seed}"])


def log_board(run: Any, board: Board) -> None:
    """The leaderboard's tables (a line per study; a line per backbone and method) and two plots."""
    import wandb

    studies = _table([_study(row) for row in board.rows])
    methods = _table([_method(mean) for mean in board.means])
    run.log(
        {
            "leaderboard": methods,
            "studies": studies,
            "accuracy against parameters": wandb.plot.scatter(
                methods, "trainable_params", "mean", "mean test accuracy, trained parameters"
            ),
            **{
                f"accuracy by method/{name}": wandb.plot.bar(
                    methods, "label", name, f"test accuracy, {name.replace('_', ' ')}"
                )
                for name in board.mean_names
                if any(mean.averages[name] is not None for mean in board.means)
            },
        }
    )


def _study(row: Row) -> dict[str, Any]:
    test, printed = row.test_accuracy, row.published
    low, high = (test and test.ci95) or (None, None)
    return {
        **asdict(row.study),
        "group": row.group,
        "mean": test and test.mean,
        "std": test and test.std,
        "ci95_low": low,
        "ci95_high": high,
        "seeds": test.n if test else 0,
        "published": printed and printed.accuracy,
        "difference": printed and printed.difference,
        "val_accuracy": row.val_accuracy,
        "config": format_config(row.config) if row.config else None,
        "trainable_params": row.trainable_params,
        "search_trials": row.trials,
    }


def _method(mean: Mean) -> dict[str, Any]:
    return {
        "label": f"{mean.method} · {mean.backbone}",
        "backbone": mean.backbone,
        "method": mean.method,
        **mean.averages,
        "trainable_params": mean.params_mean,
        "tasks": mean.n_tasks,
    }


def _table(rows: list[dict[str, Any]]) -> Any:
    import wandb

    return wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])


def _name(trial: TrialInfo) -> str:
    """`arc · cifar100 · r50 lr0.003`, with the seed for a final."""
    short = {"rank": "r", "weight_decay": "wd", "dropout": "drop"}
    order = {"rank": 0, "lr": 1}
    config = sorted(trial.config.items(), key=lambda item: (order.get(item[0], 2), item[0]))
    parts = [f"{short.get(name, name)}{format_value(value)}" for name, value in config]
    if trial.kind == "final":
        parts.append(f"seed{trial.seed}")
    return f"{trial.method} · {trial.task.split('/')[-1]} · {' '.join(parts)}"
