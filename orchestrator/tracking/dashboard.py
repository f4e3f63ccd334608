"""A sweep's W&B dashboard as code: a saved workspace to look around in, a report to show.

Both are built from leaderboard.json alone. Where they were saved stands in the sweep's folder, so
that the same command updates them. (wandb-workspaces, in public preview, makes the specification;
how W&B draws it was never seen by its tests.)
"""

import json
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from arc_train.errors import InputError
from orchestrator.leaderboard.board import Board
from orchestrator.store.atomic import write_atomically

SAVED = "wandb_dashboard.json"
ACCURACY, PARAMS = wr.SummaryMetric("test_accuracy"), wr.SummaryMetric("trainable_params")
VALIDATION = wr.SummaryMetric("val_accuracy")


def specification(board: Board) -> dict[str, Any]:
    """Workspace and report as W&B stores them, for no entity and project yet: asks no server."""
    workspace, report = _workspace(board, "", ""), _report(board, "", "")
    return {
        "workspace": json.loads(_dumped(workspace)),
        "report": json.loads(_dumped(report)),
    }


def save(folder: Path, board: Board, entity: str | None, project: str) -> dict[str, str]:
    """Create the workspace and the report of a sweep, or update those that it has.

    entity: None for the account's own. Returns their addresses.

    Raises:
        InputError: the server can't be reached, or refuses.
    """
    import wandb

    path = folder / SAVED
    try:
        entity = entity or wandb.Api(timeout=30).default_entity
        workspace, report = _workspace(board, entity, project), _report(board, entity, project)
        if path.exists():
            known = json.loads(path.read_text())
            if (known["entity"], known["project"]) == (entity, project):
                workspace._internal_name, workspace._internal_id = known["workspace"]
                report.id = known["report"]
        workspace.save()
        report.save()
    except Exception as error:  # of wandb, of its transport, of the server's answers
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"dashboard of {entity}/{project} on W&B: {reason}") from error
    saved = {
        "entity": entity,
        "project": project,
        "workspace": [workspace._internal_name, workspace._internal_id],
        "report": report.id,
    }
    write_atomically(path, json.dumps(saved).encode())
    return {"workspace": workspace.url, "report": report.url}


def _workspace(board: Board, entity: str, project: str) -> Any:
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"arc-sweep {board.sweep}",
        sections=[
            ws.Section("Leaderboard", [_table("leaderboard"), _table("studies")], is_open=True),
            ws.Section("Finals", [_against_parameters(), _bars("by task", "task")], is_open=True),
            ws.Section("Search", [_coordinates(board), *_scatters(board)], is_open=True),
            ws.Section("Curves", _curves()),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=50),
        runset_settings=ws.RunsetSettings(
            pinned_columns=["config:method.value", "config:task.value", "summary:val_accuracy"],
        ),
    )


def _report(board: Board, entity: str, project: str) -> Any:
    finals = expr.Config("kind") == "final"
    groups = list(dict.fromkeys(row.group for row in board.rows))

    def grid(panels: list[Any], *filters: Any) -> Any:
        runs = wr.Runset(entity=entity, project=project, filters=list(filters))
        return wr.PanelGrid(runsets=[runs], panels=panels)

    return wr.Report(
        entity=entity,
        project=project,
        title=f"{board.sweep}: leaderboard",
        description="Written by arc-sweep dashboard.",
        width="fluid",
        blocks=[
            wr.MarkdownBlock(_summary(board)),
            wr.H2("Leaderboard"),
            wr.MarkdownBlock(_means(board)),
            wr.H2("Beside the published tables"),
            wr.MarkdownBlock(_beside(board)),
            wr.H2("Accuracy against trained parameters"),
            grid([_against_parameters()], finals),
            *(
                block
                for group in groups
                for block in (
                    wr.H2(f"Tasks: {group}"),
                    grid(
                        [_bars("by method", "method"), _bars("by task", "task")],
                        finals,
                        expr.Config("task_group") == group,
                    ),
                )
            ),
            wr.H2("Search"),
            grid([_coordinates(board), *_scatters(board)], expr.Config("kind") == "search"),
            wr.H2("Curves of every study"),
            wr.PanelGrid(
                runsets=[
                    wr.Runset(
                        entity=entity,
                        project=project,
                        filters=[expr.Config("kind") == "search"],
                        groupby=["config.task.value", "config.method.value"],
                    )
                ],
                panels=_curves(),
            ),
        ],
    )


def _table(name: str) -> Any:
    return wr.WeavePanelSummaryTable(table_name=name)


def _against_parameters() -> Any:
    return wr.ScatterPlot(
        title="test accuracy against trained parameters", x=PARAMS, y=ACCURACY, log_x=True
    )


def _bars(title: str, by: str) -> Any:
    return wr.BarPlot(
        title=f"test accuracy {title}, mean and standard error over runs",
        metrics=[ACCURACY],
        groupby=wr.Config(by),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_bars_to_show=30,
    )


def _searched(board: Board) -> list[str]:
    """Hyperparameters that occur, lr and rank first."""
    names = {name for row in board.rows for name in row.config or ()}
    return sorted(names, key=lambda name: (name != "lr", name != "rank", name))


def _coordinates(board: Board) -> Any:
    columns = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(name), log=name == "lr")
        for name in _searched(board)
    ]
    return wr.ParallelCoordinatesPlot(
        title="configurations and validation accuracy",
        columns=[*columns, wr.ParallelCoordinatesPlotColumn(VALIDATION)],
    )


def _scatters(board: Board) -> list[Any]:
    return [
        wr.ScatterPlot(
            title=f"validation accuracy by {name}",
            x=wr.Config(name),
            y=VALIDATION,
            log_x=name in ("lr", "rank"),
        )
        for name in _searched(board)
    ]


def _curves() -> list[Any]:
    return [
        wr.LinePlot(title=title, x="epoch", y=[key], max_runs_to_show=100)
        for title, key in (
            ("validation accuracy", "val_accuracy"),
            ("validation loss", "val_loss"),
            ("training loss", "train_loss"),
        )
    ]


def _summary(board: Board) -> str:
    seeds = len(board.protocol.seeds)
    trials = sum(row.trials for row in board.rows)
    return (
        f"{len(board.rows)} studies, {trials:,} search trials. Each study's winner was chosen "
        f"on validation images alone, refitted under {seeds} seeds on "
        f"{board.protocol.final_on} and tested once. Figures: mean over seeds, in %."
    )


def _means(board: Board) -> str:
    """Methods as rows, means as columns."""
    shown = [n for n in board.mean_names if any(m.averages[n] is not None for m in board.means)]
    lines = [["backbone", "method", *shown, "trained parameters", "tasks"]]
    for mean in board.means:
        tasks = f"{mean.n_tasks} of {mean.n_expected}"
        params = f"{mean.params_mean:,.0f}" if mean.params_mean is not None else ""
        numbers = [_number(mean.averages[name]) for name in shown]
        lines.append([mean.backbone, mean.method, *numbers, params, tasks])
    return _markdown(lines)


def _beside(board: Board) -> str:
    """Ours, printed, difference and protocol of every study that has a printed figure."""
    lines = [["backbone", "method", "task", "ours", "published", "difference", "protocol"]]
    for row in board.rows:
        if printed := row.published:
            ours = row.test_accuracy.mean if row.test_accuracy else None
            numbers = _number(ours), _number(printed.accuracy), _number(printed.difference)
            where = [row.backbone, row.method, row.task]
            lines.append([*where, *numbers, printed.protocol])
    if len(lines) == 1:
        return "No study of this sweep stands in the published tables."
    return _markdown(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _markdown(lines: list[list[str]]) -> str:
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])


def _dumped(made: Any) -> str:
    """The specification of a workspace or report; wandb-workspaces has no public way to it."""
    text: str = made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    return text
