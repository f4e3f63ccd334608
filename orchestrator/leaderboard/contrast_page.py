"""Two methods compared -> an HTML page with the images that one has right and the other wrong."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from orchestrator.leaderboard.comparison import level, signed
from orchestrator.leaderboard.contrast import (
    HOW,
    Answer,
    ClassContrast,
    Contrast,
    Example,
    TaskContrast,
    class_name,
)
from orchestrator.leaderboard.paired import LEVEL
from orchestrator.leaderboard.pictures import Pictures
from orchestrator.leaderboard.source import Source
from orchestrator.leaderboard.template import fill

FIRST_CLASSES = 8  # that are seen at once; the others can be unfolded

Names = Sequence[str]


def contrast_page(
    source: Source,
    found: Contrast,
    pictures: Mapping[str, Pictures],
    names: Mapping[str, Names],
) -> str:
    """The page: a table of tasks, then for each task its classes and its pictures.

    names: task -> its classes in order, where they are known.
    """
    a, b = map(escape, found.methods)
    seeds = len(found.seeds)
    sections = [
        _section(number, task, found.methods, pictures[task.task], names.get(task.task, ()))
        for number, task in enumerate(found.tasks)
    ]
    return fill(
        "contrast.html",
        {
            "title": f"{a} against {b}",
            "sweep": escape(source.name),
            "statement": f"Sweep {escape(source.name)}, backbone {escape(found.backbone)}: finals "
            f"under {seeds} seed{'s' if seeds > 1 else ''} each, on the same test images.",
            "tasks": _tasks(found),
            "how": escape(HOW) + _left_out(found),
            "sections": "".join(sections),
        },
    )


def _left_out(found: Contrast) -> str:
    said = "; ".join(f"{task} ({reason})" for task, reason in found.left_out.items())
    return f" Left out: {escape(said)}." if said else ""


def _tasks(found: Contrast) -> str:
    a, b = map(escape, found.methods)
    heads = ["images", a, b, "difference", "95 % interval", "p", f"only {a}", f"only {b}"]
    body = ""
    for number, task in enumerate(found.tasks):
        pair = task.pair
        cells = [f"{len(task.labels):,}", *(f"{accuracy:.1f}" for accuracy in task.accuracy)]
        told = pair is not None and pair.told_apart
        interval = f"{signed(pair.ci95[0])} to {signed(pair.ci95[1])}" if pair else "–"
        rest = [interval, level(pair.p_corrected) if pair else "–"]
        rest += [f"{share:.1f} %" for share in task.only]
        body += (
            f'<tr><th scope="row"><a href="#t{number}">{escape(task.task)}</a></th>'
            f"{_cells(cells)}{_difference(task.accuracy[0] - task.accuracy[1], told)}"
            f"{_cells(rest)}</tr>"
        )
    return _table("Task", heads, body)


def _section(
    number: int,
    task: TaskContrast,
    methods: tuple[str, str],
    pictures: Pictures,
    names: Names,
) -> str:
    first, others = task.classes[:FIRST_CLASSES], task.classes[FIRST_CLASSES:]
    classes = _classes(first, methods, names)
    if others:
        classes += (
            f"<details><summary>The other {len(others)} classes</summary>"
            f"{_classes(others, methods, names)}</details>"
        )
    sides = "".join(_side(task, side, methods, pictures, names) for side in (0, 1))
    missing = f'<p class="hint">No pictures: {escape(pictures.missing or "")}.</p>'
    return (
        f'<section aria-labelledby="t{number}"><div class="top"><h2 id="t{number}">'
        f"{escape(task.task)}</h2></div>{classes}"
        f'<div class="sides">{sides}</div>{missing if pictures.missing else ""}</section>'
    )


def _classes(shown: Sequence[ClassContrast], methods: tuple[str, str], names: Names) -> str:
    a, b = map(escape, methods)
    heads = ["images", a, b, "difference", "p", f"{a} says", f"{b} says"]
    body = ""
    for entry in shown:
        cells = [f"{entry.images:,}", *(f"{accuracy:.1f}" for accuracy in entry.accuracy)]
        says = "".join(f'<td class="text">{_says(answer, names)}</td>' for answer in entry.mistaken)
        body += (
            f'<tr><th scope="row">{escape(class_name(names, entry.label))}</th>{_cells(cells)}'
            f"{_difference(entry.difference, entry.p_corrected < LEVEL)}"
            f"<td>{level(entry.p_corrected)}</td>{says}</tr>"
        )
    return _table("Class", heads, body)


def _says(answer: Answer | None, names: Names) -> str:
    return f"{escape(class_name(names, answer.label))} ({answer.share:.0f} %)" if answer else "–"


def _side(
    task: TaskContrast,
    side: int,
    methods: tuple[str, str],
    pictures: Pictures,
    names: Names,
) -> str:
    """The images that one method alone has right, under every seed."""
    method, other = escape(methods[side]), escape(methods[1 - side])
    count, shown = task.examples_of[side], task.examples[side]
    seen = [example for example in shown if example.place in pictures.images]
    about = f"{count:,} images under every seed"
    if seen and len(seen) < count:
        about += f", the {len(seen)} where {other} is most sure"
    items = "".join(_picture(e, side, other, pictures.images[e.place], names) for e in seen)
    return (
        f"<div><h3>Right by {method}, wrong by {other} <small>{about}</small></h3>"
        f'<ul class="pictures">{items}</ul></div>'
    )


def _picture(example: Example, side: int, other: str, content: bytes, names: Names) -> str:
    right = escape(class_name(names, example.label))
    wrong = example.answers[1 - side]
    said = f"{other}: {escape(class_name(names, wrong.label))} ({wrong.share:.2f})"
    data = b64encode(content).decode()
    return (
        f'<li><img src="data:image/webp;base64,{data}" alt="Test image {example.place}">'
        f"<p>{right}</p><p>{said}</p></li>"
    )


def _table(first: str, heads: Sequence[str], body: str) -> str:
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">{first}</th>{columns}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"<td>{text}</td>" for text in texts)


def _difference(value: float, told: bool) -> str:
    kind = ("above" if value > 0 else "below") if told else ""
    return f'<td class="{kind}">{signed(value)}</td>'
