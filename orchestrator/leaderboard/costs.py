"""What a method's finals cost, as the page's table of time, memory and energy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from orchestrator.leaderboard.board import Board, Cost
from orchestrator.leaderboard.means import average


@dataclass(frozen=True)
class MethodCost:
    """Of a final of a method on a backbone: means over tasks, and the largest memory."""

    backbone: str
    method: str
    cost: Cost


def method_costs(board: Board) -> list[MethodCost]:
    """In the board's order; of methods whose results are of older code nothing is known."""
    lines: dict[tuple[str, str], list[Cost]] = {}
    for row in board.rows:
        if row.cost:
            lines.setdefault((row.backbone, row.method), []).append(row.cost)
    return [MethodCost(*line, _together(costs)) for line, costs in lines.items()]


def cost_table(board: Board) -> str:
    """The table, or nothing where nothing is known."""
    shown = method_costs(board)
    if not shown:
        return ""
    several = len({row.backbone for row in board.rows}) > 1
    heads = ("seconds", "images/s", "peak memory", "energy")
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    body = "".join(
        f'<tr class="by"><th scope="row">{escape(one.method)}'
        f"{f'<small>{escape(one.backbone)}</small>' if several else ''}</th>"
        f"{''.join(f'<td>{text}</td>' for text in _texts(one.cost))}</tr>"
        for one in shown
    )
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">A final</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="hint">Means over tasks and finals, each with its share of its pack; memory is '
        "the most that a pack held on its GPU.</p>"
    )


def _together(costs: Sequence[Cost]) -> Cost:
    memory = [cost.peak_memory for cost in costs if cost.peak_memory is not None]
    energy = [cost.energy for cost in costs if cost.energy is not None]
    return Cost(
        seconds=sum(cost.seconds for cost in costs) / len(costs),
        images_per_second=sum(cost.images_per_second for cost in costs) / len(costs),
        peak_memory=max(memory, default=None),
        energy=average(energy) if len(energy) == len(costs) else None,
    )


def _texts(cost: Cost) -> Iterator[str]:
    yield f"{cost.seconds:,.1f}"
    yield f"{cost.images_per_second:,.0f}"
    yield "–" if cost.peak_memory is None else f"{cost.peak_memory / 1e9:.2f} GB"
    yield "–" if cost.energy is None else f"{cost.energy / 1e3:,.2f} kJ"
