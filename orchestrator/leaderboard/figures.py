"""The page's plots as PNG files for a paper: one set per backbone, drawn from the same numbers."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from orchestrator.leaderboard.board import Board, Mean, Row
from orchestrator.leaderboard.means import groups_of
from orchestrator.leaderboard.ranks import Ranking, ranks
from orchestrator.store.result import Result

DPI = 200
# Told apart by readers with any colour vision (Okabe and Ito); markers repeat what colours say.
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX*"


def draw(board: Board, results: Iterable[Result], folder: Path) -> list[Path]:
    """Write all figures into a folder; returns their paths.

    Raises:
        OSError: the folder can't be written.
    """
    matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False})
    matplotlib.rcParams.update({"axes.spines.right": False, "svg.fonttype": "none"})
    folder.mkdir(parents=True, exist_ok=True)
    searched = [trial for trial in results if trial.kind == "search"]
    drawn: list[Path] = []

    def keep(name: str, figure: Figure | None) -> None:
        if figure is not None:
            safe = re.sub(r"[^\w.-]", "-", name)
            path = folder / f"{safe}.png"
            figure.savefig(path, dpi=DPI, bbox_inches="tight")
            drawn.append(path)

    for backbone in dict.fromkeys(row.backbone for row in board.rows):
        rows = [row for row in board.rows if row.backbone == backbone]
        means = [mean for mean in board.means if mean.backbone == backbone]
        keep(f"parameters-{backbone}", _parameters(means))
        keep(f"groups-{backbone}", _groups(rows))
        for method in dict.fromkeys(row.method for row in rows):
            own = [row for row in rows if row.method == method]
            keep(f"search-{method}-{backbone}", _search(own, searched))
    for ranking in ranks(board):
        keep(f"ranks-{ranking.backbone}", _ranks(ranking))
    return drawn


def _parameters(means: Sequence[Mean]) -> Figure | None:
    """Mean accuracy against trained parameters, published points hollow."""
    key = "mean_19" if all(mean.averages["mean_19"] is not None for mean in means) else "mean"
    shown = [
        (mean, mean.params_mean, accuracy)
        for mean in means
        if (accuracy := mean.averages[key]) is not None and mean.params_mean
    ]
    if not shown:
        return None
    figure, axes = _figure(3.4, 2.6)
    for i, (mean, params, accuracy) in enumerate(shown):
        look = _look(i)
        axes.plot(params, accuracy, **look, label=mean.method)
        printed = (mean.published or {}).get(key)
        if printed and printed.params_mean:
            hollow = {**look, "markerfacecolor": "none"}
            axes.plot(printed.params_mean, printed.accuracy, **hollow)
    axes.set_xscale("log")
    axes.set_xlabel("trained parameters")
    axes.set_ylabel(f"test accuracy, % ({'mean of 19 tasks' if key == 'mean_19' else 'mean'})")
    _legend(axes)
    return figure


def _groups(rows: Sequence[Row]) -> Figure | None:
    """Mean accuracy of each method on each group of tasks, where all of its tasks are finished."""
    methods = list(dict.fromkeys(row.method for row in rows))
    groups = [
        g
        for g in (*groups_of(r.group for r in rows), "demo")
        if any(row.group == g for row in rows)
    ]
    figure, axes = _figure(1.2 + 1.3 * len(groups), 2.4)
    width = 0.8 / len(methods)
    lowest = math.inf
    for i, method in enumerate(methods):
        for place, group in enumerate(groups):
            own = [r for r in rows if r.method == method and r.group == group]
            accuracies = [row.test_accuracy.mean for row in own if row.test_accuracy]
            if not own or len(accuracies) < len(own):
                continue
            height = sum(accuracies) / len(own)
            lowest = min(lowest, height)
            at = place - 0.4 + width * (i + 0.5)
            axes.bar(at, height, width, color=HUES[i % 7], hatch=("", "///", "...")[i // 7 % 3])
        axes.bar(0, 0, color=HUES[i % 7], hatch=("", "///", "...")[i // 7 % 3], label=method)
    if lowest == math.inf:
        return None
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("test accuracy, %")
    _legend(axes)
    return figure


def _search(rows: Sequence[Row], trials: Sequence[Result]) -> Figure | None:
    """A method's searches, a panel per task: learning rate against validation accuracy."""
    panels = []
    for row in rows:
        own = [
            (t, t.val_accuracy)
            for t in trials
            if (t.backbone, t.method, t.task) == (row.backbone, row.method, row.task)
            and t.val_accuracy is not None
            and float(t.config.get("lr", 0)) > 0
        ]
        if own:
            panels.append((row, own))
    if not panels:
        return None
    across = min(6, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(0.4 + 1.6 * across, 0.6 + 1.3 * down), layout="constrained")
    values = sorted({float(t.config.get("rank", 0)) for _, own in panels for t, _ in own})
    for i, (row, own) in enumerate(panels):
        axes = figure.add_subplot(down, across, i + 1)
        for trial, accuracy in own:
            place = values.index(float(trial.config.get("rank", 0))) / max(1, len(values) - 1)
            won = trial.status == "done" and trial.config == row.config
            axes.plot(
                trial.config["lr"],
                accuracy,
                marker="o",
                markersize=5 if won else 3.5,
                color=matplotlib.colormaps["viridis"](0.9 * place),
                alpha=0.35 if trial.status == "stopped" else 1,
                markeredgecolor="black" if won else "none",
            )
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(row.task.split("/")[-1], fontsize=7)
        axes.tick_params(labelsize=6)
    ranked = f", darkest: rank {values[0]:g}, lightest: {values[-1]:g}" if len(values) > 1 else ""
    figure.supxlabel("learning rate", fontsize=7)
    figure.supylabel("validation accuracy, %", fontsize=7)
    figure.suptitle(f"{rows[0].method}: stopped trials pale, winner ringed{ranked}", fontsize=7)
    return figure


def _ranks(ranking: Ranking) -> Figure:
    """Mean ranks; a bar joins methods that the tasks can't tell apart."""
    entries = ranking.methods
    figure, axes = _figure(3.4, 0.9 + 0.22 * len(entries))
    for i, entry in enumerate(entries):
        axes.plot(entry.rank, i, "o", color="black", markersize=4)
    for i, (first, last) in enumerate(ranking.groups):
        at = len(entries) + 0.4 + 0.25 * i
        axes.plot([at, at], [first - 0.2, last + 0.2], color="#777777", linewidth=2.5)
    axes.set_yticks(range(len(entries)), [entry.method for entry in entries])
    axes.invert_yaxis()
    critical = ranking.critical
    told = "" if critical is None else f", critical difference {critical:.2f}"
    axes.set_xlabel(f"mean rank over {ranking.tasks} tasks{told}")
    axes.set_xticks(range(1, len(entries) + 1))
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _look(i: int) -> dict[str, Any]:
    marker = MARKERS[i % len(MARKERS)]
    return {"color": HUES[i % len(HUES)], "marker": marker, "markersize": 6, "linestyle": ""}


def _legend(axes: Axes) -> None:
    axes.legend(
        fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.2
    )
