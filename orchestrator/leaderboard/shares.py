"""What matters, as text and as the page's table: shares of the variance by hyperparameter."""

from collections import Counter
from html import escape

from arc_train.hyperparameters.importance import Share
from orchestrator.store.importance import Importances, MethodImportance

CAPTION = (
    "Share of the variance of validation accuracy over the search space that each hyperparameter "
    "explains alone, with its 95 % interval over tasks; together: only in combination. By a random "
    "forest on the trials of all tasks (functional ANOVA), after the last epoch that every trial "
    "reached, so that rungs don't choose among them. Unseen: how much of a task's variance a "
    "forest of the other tasks predicts; where that is nothing, the shares say nothing (in grey)."
)


def hyperparameters(found: Importances) -> list[str]:
    """Those that are searched, the most frequent first."""
    return [
        name
        for name, _ in Counter(n for m in found.methods for n in m.importance.alone).most_common()
    ]


def doubt(row: MethodImportance) -> str | None:
    """Why the shares say nothing, if they don't."""
    unseen = row.importance.unseen
    if unseen is None:
        return "one task: can't be checked on another"
    return "says nothing about an unseen task" if unseen <= 0 else None


def line(row: MethodImportance, names: list[str]) -> list[str]:
    """Texts of the shares of these hyperparameters, and of what they explain together only."""
    alone = row.importance.alone
    together = max(0.0, 100 - sum(share.value for share in alone.values()))
    return [*(_text(alone[name]) if name in alone else "" for name in names), f"{together:.0f}"]


def section(found: Importances | None, trials: int) -> str:
    """The page's section; empty where nothing is known. trials: that the search has by now."""
    if found is None or not found.methods:
        return ""
    names = hyperparameters(found)
    several = len({row.backbone for row in found.methods}) > 1
    head = "".join(
        f'<th scope="col">{escape(name)}</th>'
        for name in (*names, "together", "tasks", "trials", "unseen")
    )
    body = "".join(_row(row, names, several) for row in found.methods)
    old = f" From {found.trials:,} of {trials:,} trials: arc-sweep importance makes it anew."
    return (
        '<section aria-labelledby="h-matters" id="matters"><div class="top">'
        '<h2 id="h-matters">What matters</h2></div>'
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="hint">{escape(CAPTION)}{old if found.trials != trials else ""}</p></section>'
    )


def _row(row: MethodImportance, names: list[str], several: bool) -> str:
    known, why = row.importance, doubt(row)
    below = f"<small>{escape(row.backbone)}</small>" if several else ""
    unseen = "–" if known.unseen is None else f"{known.unseen:.0f}"
    cells = [*line(row, names), str(known.tasks), str(known.trials), unseen]
    soft = f' class="soft" title="{why}"' if why else ""
    shown = "".join(f"<td{soft}>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(row.method)}{below}</th>{shown}</tr>'


def _text(share: Share) -> str:
    """`59 (53–64)`, in percent."""
    if share.ci95 is None:
        return f"{share.value:.0f}"
    low, high = share.ci95
    return f"{share.value:.0f} ({low:.0f}–{high:.0f})"
