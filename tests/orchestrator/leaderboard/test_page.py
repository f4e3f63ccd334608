"""What people see: the leaderboard on a terminal and as a page, drawn from a board made here."""

import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console

from arc_train.backbones import Backbone
from arc_train.tasks.catalog import catalog
from orchestrator.leaderboard.board import (
    BestOnTest,
    Board,
    Mean,
    MeanBestOnTest,
    Protocol,
    Quality,
    Row,
    Spread,
    Ties,
    plain_board,
)
from orchestrator.leaderboard.grid import grid, statement
from orchestrator.leaderboard.latex import escape, latex
from orchestrator.leaderboard.page import page
from orchestrator.leaderboard.references import add_references
from orchestrator.leaderboard.terminal import render
from orchestrator.store.result import Result
from tests.results import final, result

EVIL = "</script><script>alert(1)</script>{{plotly}}"
DEMO = {"demo/digits": "demo", "demo/count": "demo", "demo/location": "demo"}
VTAB = {
    f"vtab/{group}{i}": group
    for group, size in (("natural", 7), ("specialized", 4), ("structured", 8))
    for i in range(size)
}
FGVC = {f"fgvc/birds{i}": "fgvc" for i in range(5)}
STATUSES = ("done", "done", "stopped", "diverged", "failed")


def row(backbone: str, method: str, task: str, group: str, accuracy: float | None) -> Row:
    """A study; without a final where the accuracy is None."""
    test = None
    if accuracy is not None:
        test = Spread(accuracy, 0.7071, 2, (accuracy - 0.5, accuracy + 0.5), None)
    return Row(
        backbone=backbone,
        method=method,
        task=task,
        group=group,
        test_accuracy=test,
        val_accuracy=71.5,
        ties=None,
        config={"rank": 8, "lr": 0.01},
        trainable_params=110_000,
        adapter_params=100_000,
        trials=len(STATUSES),
        statuses={"diverged": 1, "done": 2, "failed": 1, "stopped": 1},
        seconds=12.5,
        variants=(),
    )


def mean(rows: Sequence[Row]) -> Mean:
    """The means of a method's rows."""

    def average(*groups: str) -> float | None:
        found = [
            r.test_accuracy.mean
            for r in rows
            if r.test_accuracy and (not groups or r.group in groups)
        ]
        return fmean(found) if found else None

    three = {group: average(group) for group in ("natural", "specialized", "structured")}
    return Mean(
        backbone=rows[0].backbone,
        method=rows[0].method,
        averages={
            "mean": average(),
            "mean_19": average(*three),
            "mean_groups": average(*three),
            **three,
            "fgvc": average("fgvc"),
        },
        ci95={},
        params_mean=110_000.0,
        n_tasks=sum(1 for r in rows if r.test_accuracy),
        n_expected=len(rows),
        n_by_group={},
    )


def board(
    tasks: Mapping[str, str],
    methods: Sequence[str] = ("linear", "arc"),
    backbones: Sequence[str] = ("pico",),
    missing: Iterable[tuple[str, str]] = (),
    sweep: str = "quickstart",
) -> Board:
    """A board in which later methods are better; `missing` are (method, task) without a final."""
    gaps = set(missing)
    rows, means = [], []
    for backbone, (place, method) in itertools.product(backbones, enumerate(methods)):
        mine = [
            row(backbone, method, task, group, None if (method, task) in gaps else 60.0 + 3 * place)
            for task, group in tasks.items()
        ]
        rows += mine
        means.append(mean(mine))
    return Board(sweep, Protocol("train+val", False, (0, 1)), tuple(rows), tuple(means))


def read_back(made: Board) -> Any:
    """A board as whoever reads its JSON finds it."""
    return json.loads(json.dumps(plain_board(made)))


def trials(made: Board) -> list[Result]:
    """Results of a board: searches that end in every way, and finals."""
    results: list[Result] = []
    for study in made.rows:
        own: dict[str, Any] = {**asdict(study.study), "seconds": 2.5}
        own |= {"trainable_params": 110_000, "adapter_params": 100_000}
        for i, status in enumerate(STATUSES):
            measured = status in ("done", "stopped")
            results.append(
                result(
                    f"{len(results):016x}",
                    config={"rank": 2 ** (3 + i), "lr": 0.01 * 2**i},
                    status=status,
                    note=None if status == "done" else f"{status} because of {EVIL}",
                    val_accuracy=71.5 - i if measured else None,
                    val_loss=1.0 if measured else None,
                    curve=[[1, 2.0, None, None], [2, 1.5, 1.6, 50.0 + i]],
                    **own,
                )
            )
        if study.test_accuracy:
            winner = results[-len(STATUSES)]
            for seed, accuracy in enumerate(study.test_accuracy.seeds):
                tested = {"config": winner.config, "curve": winner.curve, **own}
                results.append(final(seed, accuracy, id=winner.id, **tested))
    return results


def terminal(made: Board, width: int = 80, calibration: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(made, calibration))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines()) <= width
    return text


class Page(HTMLParser):
    """A page as a browser takes it apart: scripts, table, options."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.data: dict[str, Any] = {}
        self.lines: list[list[str]] = []
        self.heads: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._script: str | None = None
        self._inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag == "script":
            self._script = found.get("id") or ""
        if tag == "table":
            self._inside = found.get("id") == "leaderboard"
        if self._inside and tag == "tr":
            self.lines.append([])
        if self._inside and tag in ("th", "td"):
            self.lines[-1].append("")
            if tag == "th" and found.get("scope") == "col":
                self.heads.append(found)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None
        if tag == "table":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.data[self._script] = json.loads(data)
        elif self._script is not None:
            self.scripts.append(data)
        else:
            self.texts.append(data)
            if self._inside and self.lines and self.lines[-1]:
                self.lines[-1][-1] += data + " "


def test_few_tasks_stand_with_their_deviation_in_80_columns() -> None:
    text = terminal(board(DEMO, ["linear", "arc_att", "arc"]))
    assert re.search(r"method +digits +count +location +mean +params", text)
    assert re.search(r"arc +66\.0 ±0\.7 +66\.0 ±0\.7 +66\.0 ±0\.7 +66\.0 +0\.11 M", text)
    assert text.index("\narc ") < text.index("\narc_att ") < text.index("\nlinear ")
    assert "*" not in text


def test_many_tasks_become_group_means_with_both_averages_by_name() -> None:
    text = terminal(board({**VTAB, **FGVC}, [f"method_{i}" for i in range(12)]))
    assert re.search(r"natural +specialized +structured +fgvc +of 19 +groups +params", text)
    assert "birds" not in text
    assert len(re.findall(r"^method_\d+ ", text, re.MULTILINE)) == 12


def test_a_mean_over_some_tasks_is_marked_ranks_below_and_is_never_best() -> None:
    made = board(DEMO, ["linear", "arc_att", "arc"], missing=[("arc", "demo/count")])
    text = terminal(made)
    assert re.search(r"^arc .* 66\.0\* ", text, re.MULTILINE)
    assert "* over 2 of 3 tasks: arc" in text
    assert text.index("\nlinear ") < text.index("\narc ")
    lines = {line.method: line.cells[0] for line in grid(made).lines}
    assert lines["arc"].partial
    assert not lines["arc"].best
    assert lines["arc_att"].best


def test_a_part_of_a_group_does_not_pass_for_the_whole() -> None:
    tasks = {task: group for task, group in VTAB.items() if task != "vtab/natural0"}
    titles = {column.key: column.title for column in grid(board(tasks)).columns}
    assert titles["natural"] == "natural\n6 of 7"
    assert "mean_19" not in titles
    assert titles["mean"] == "mean"


def test_fewer_finals_than_seeds_are_marked() -> None:
    made = board(DEMO)
    one = replace(made.rows[0], test_accuracy=Spread(60.0, None, 1, (60.0,), None))
    made = replace(made, rows=(one, *made.rows[1:]))
    text = terminal(made)
    assert "60.0†" in text
    assert "† fewer than 2 finals so far: 1 of 6 studies" in text
    assert "60.0 † (1 of 2)" in " ".join(Page(page(made, [])).lines[2][3].split())


def metered(made: Board) -> Board:
    """The same with the leak meter's figures, and the first method tied with the best."""
    rows = tuple(
        replace(
            row,
            best_on_test=BestOnTest(68.0, 0.1, 2, (1, 2), 1.25),
            ties_with_best=row.method == "linear",
            ties=Ties(3.2, 4, 1),
        )
        for row in made.rows
    )
    means = tuple(
        replace(
            mean,
            best_on_test=MeanBestOnTest(68.0, 1.25, mean.n_tasks),
            ties_with_best={"mean": mean.method == "linear"},
        )
        for mean in made.means
    )
    return replace(made, rows=rows, means=means)


def test_what_best_on_test_would_have_claimed_stands_beside_the_honest_number() -> None:
    made = metered(board(DEMO))
    text = terminal(made)
    assert re.search(r"on test +gap", text)
    assert re.search(r"^arc .* 68\.0 +1\.2 ", text, re.MULTILINE)
    assert "would have claimed" in " ".join(text.split())
    read = Page(page(made, trials(made)))
    assert [head["data-key"] for head in read.heads if head.get("class") == "leak"] == [
        "best_on_test",
        "gap",
    ]
    assert "on test" not in terminal(board(DEMO))


def test_what_seeds_can_not_tell_from_the_best_has_a_quiet_mark_and_a_legend() -> None:
    text = terminal(metered(board(DEMO)))
    assert re.search(r"^linear +60\.0≈ ±0\.7 .* 60\.0≈ ", text, re.MULTILINE)
    assert not re.search(r"^arc .*≈", text, re.MULTILINE)
    words = " ".join(text.split())
    assert "≈ can't be told from the best" in words
    assert "In 6 of 6 studies other trials (median 4) lie within one standard error" in words
    read = Page(page(metered(board(DEMO)), []))
    assert sum("≈" in cell for line in read.lines for cell in line) == 4
    assert "≈" not in terminal(board(DEMO))


def calibrated(made: Board) -> Board:
    """With calibration of its studies, but for the last one."""
    rows = [replace(row, quality=Quality(61.0, 4.5, 0.789, 2)) for row in made.rows[:-1]]
    return replace(made, rows=(*rows, made.rows[-1]))


def test_calibration_is_there_for_those_who_ask() -> None:
    made = calibrated(board(DEMO))
    assert "ECE" not in terminal(made)
    text = terminal(made, calibration=True)
    assert re.search(r"^arc .* 61\.0\* +4\.5\* +0\.789\* +0\.11 M", text, re.MULTILINE)
    assert "ECE: calibration error" in " ".join(text.split())
    read = Page(page(made, []))
    assert [head["data-key"] for head in read.heads if head.get("class") == "quality"] == [
        "balanced_accuracy",
        "ece",
        "nll",
    ]
    assert "ECE" not in terminal(board(DEMO), calibration=True)


SWIN = "swin_base_patch4_window7_224.ms_in22k"
VIT = "vit_base_patch16_224.augreg_in21k"


def published(
    tasks: Iterable[str] = (),
    methods: Sequence[str] = ("linear", "lora"),
    backbones: Sequence[str] = (VIT,),
) -> Board:
    """A board of real tasks (all if none are named), with what others printed for them."""
    chosen = list(tasks) or [task for task in catalog() if not task.startswith("demo/")]
    made = board({task: catalog()[task].group for task in chosen}, methods, backbones)
    rows = []
    for row in made.rows:
        test = row.test_accuracy
        assert test
        test = replace(test, ci95=(test.mean - 1.5, 70.0))
        rows.append(replace(row, variants=("vtab-1k folder",), test_accuracy=test))
    known = {name: Backbone(name, name) for name in backbones}
    return add_references(replace(made, rows=tuple(rows)), known)


def test_published_figures_stand_beside_ours_with_their_marks() -> None:
    text = terminal(published(["vtab/dtd", "vtab/kitti"]))
    assert re.search(r"^lora +dtd +63\.0 ±\d\.\d +69\.4 tw +−6\.4 +69\.0 +−6\.0$", text, re.M)
    assert re.search(r"^ +kitti +60\.0 ±\S+ +55\.4 cw +\+4\.6 +62\.5 +", text, re.MULTILINE)
    assert "t: the epoch that was best on the test split." in text
    assert "w: other pretrained weights than ours" in text
    assert "beside the published" not in terminal(board(DEMO))


def test_a_terminal_shows_means_and_says_where_the_tasks_are() -> None:
    text = terminal(published())
    under = text[text.index("beside the published") :]
    assert re.search(r"^lora +mean of 19 +63\.0 +70\.1 tw +−7\.1 +72\.9 +−9\.9$", under, re.M)
    assert re.search(r"^ +fgvc +63\.0 +89\.5 tw +−26\.5 ", under, re.MULTILINE)
    assert "kitti" not in under
    assert "Every task: leaderboard.html and leaderboard.csv." in under
    assert "FGVC finals train on train + val here" in " ".join(under.split())


def test_printed_means_that_their_cells_contradict_are_listed() -> None:
    made = published([t for t in catalog() if t.startswith("vtab/")], ["bias"], [SWIN])
    for text in (terminal(made), " ".join(Page(page(made, [])).texts), latex(made)):
        words = " ".join(text.split())
        assert "Swin-B VPT-Deep mean of 19 67.7, cells give 68.59." in words
        assert "Swin-B MLP-4 structured 31.2, cells give 35.0" in words


@pytest.mark.parametrize("width", [40, 63, 80, 160])
def test_the_comparison_fits_any_width(width: int) -> None:
    for made in (published(backbones=[VIT, SWIN]), published(["vtab/kitti"])):
        text = terminal(made, width)
        assert ("re-tuned" in text) == (width >= 64)
        assert "tw" in text


def test_the_page_has_a_section_of_its_own_for_what_others_printed() -> None:
    made = published()
    text = page(made, trials(made))
    section = text[text.index('id="beside"') : text.index('id="h-params"')]
    lines = re.findall(r"<tr.*?</tr>", section)
    # Two headings; then 2 VTAB means and FGVC's, all means, and all tasks, of each method.
    assert len(lines) == 2 + 2 * (3 + 6 + 24)
    assert "<sup>tw</sup>" in section
    assert Page(text).data["board-data"] == read_back(made)
    assert 'id="beside"' not in page(board(DEMO), [])


def columns(line: str) -> int:
    """How many columns a line of a LaTeX table covers."""
    cells = re.split(r"(?<!\\)&", line.removesuffix(r"\\"))
    spans = (re.search(r"\\multicolumn\{(\d+)\}", cell) for cell in cells)
    return sum(int(span[1]) if span else 1 for span in spans)


@pytest.mark.parametrize(
    "made",
    [published(), published(backbones=[VIT, SWIN]), published(["fgvc/cars"]), board(DEMO),
     board(VTAB, missing=[("arc", "vtab/natural0")])],
)  # fmt: skip
def test_every_line_of_a_latex_table_has_all_its_columns(made: Board) -> None:
    text = latex(made)
    tables = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL)
    benchmarks = {row.task.split("/")[0] for row in made.rows}
    assert len(tables) == len({row.backbone for row in made.rows}) * len(benchmarks)
    for table in tables:
        width = 1 + int(re.search(r"\*\{(\d+)\}\{c\}", table)[1])  # type: ignore[index]
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert {columns(line) for line in lines} == {width}
    assert text.count("{") == text.count("}")
    for name in ("table*", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}")


def test_latex_has_published_lines_below_ours() -> None:
    lines = latex(published([t for t in catalog() if t.startswith("vtab/")])).splitlines()
    ours = next(i for i, line in enumerate(lines) if line.startswith("lora & "))
    printed = next(i for i, line in enumerate(lines) if "Printed by others" in line)
    theirs = next(i for i, line in enumerate(lines) if line.startswith(r"LoRA$^{\mathrm{tw}}$ & "))
    assert ours < printed < theirs
    assert lines[theirs].endswith(r"& 70.1 & 72.7 & 0.29 \\")
    assert r"\textbf{63.0}$_{\pm0.7}$" in lines[ours]


def test_latex_prints_names_as_they_are() -> None:
    assert escape("a_b 5% {x} \\ ~ ^ #1 $ &") == (
        r"a\_b 5\% \{x\} \textbackslash{} \textasciitilde{} \textasciicircum{} \#1 \$ \&"
    )
    assert r"met\_hod\&" in latex(board(DEMO, ["met_hod&"]))


@pytest.mark.parametrize("width", [40, 60, 80, 160])
@pytest.mark.parametrize("tasks", [dict(list(DEMO.items())[:1]), DEMO, VTAB])
def test_any_width_and_several_backbones(width: int, tasks: dict[str, str]) -> None:
    backbones = ["vit_base_patch16_224.augreg_in21k", "swin_base"]
    made = board(tasks, ["linear", "arc_att"], backbones)
    for text in (terminal(made, width), terminal(metered(made), width)):
        assert all(text.count(f"\n{name}") == 1 for name in backbones)
        assert text.count("\narc_att ") == 2


def test_markup_in_names_is_text() -> None:
    assert "[bold]x[/bold]" in terminal(board(DEMO, ["[bold]x[/bold]"], sweep="[red]"))


def test_nothing_finished_yet() -> None:
    made = board(DEMO, missing=itertools.product(["linear", "arc"], DEMO))
    assert "no final has finished yet (30 search trials, 6 studies)" in terminal(made)
    assert len(Page(page(made, trials(made))).lines) == 3
    none = replace(made, rows=(), means=())
    assert "no final has finished yet" in terminal(none)
    assert Page(page(none, [])).data["board-data"] == read_back(none)


def test_the_page_carries_the_board_and_every_study() -> None:
    made = board(VTAB, ["linear", "arc"], ["a", "b"])
    read = Page(page(made, trials(made)))
    assert read.data["board-data"] == read_back(made)
    assert [len(study) for study in read.data["trial-data"]] == [len(STATUSES)] * 76
    assert all(sum("won" in t for t in study) == 1 for study in read.data["trial-data"])
    assert read.data["trial-data"][0][0]["curve"] == [[2, 50.0]]
    assert len(read.lines) == 1 + 4
    assert len(read.heads) == len(read.lines[0]) == 1 + 2 + 1 + 3 + 19
    assert [head.get("aria-sort") for head in read.heads].count("descending") == 1
    assert statement(made) in read.texts


def test_names_can_do_no_harm() -> None:
    made = board({EVIL: "demo", "b": "demo"}, [EVIL], [EVIL, "b"], sweep=EVIL)
    results = trials(made)
    read = Page(page(made, results))
    calm = Page(page(board(DEMO), trials(board(DEMO))))
    assert read.data["board-data"] == read_back(made)
    assert read.data["trial-data"][0][2]["note"] == results[2].note
    assert read.tags.count("script") == calm.tags.count("script") == 7
    assert read.scripts == calm.scripts
    assert EVIL in read.texts


def test_the_page_asks_nobody() -> None:
    text = page(board(DEMO), trials(board(DEMO)))
    assert "default-src 'none'" in text
    markup = text.split('<script type="application/json"', 1)[0]
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", markup)


def test_figures_are_drawn_for_each_backbone_and_method(tmp_path: Path) -> None:
    from PIL import Image

    from orchestrator.leaderboard.figures import draw

    made = published(backbones=[VIT, SWIN])
    drawn = draw(made, trials(made), tmp_path / "plots")
    names = sorted(path.stem for path in drawn)
    kinds = ("groups", "parameters", "ranks", "search-linear", "search-lora")
    assert names == sorted(f"{kind}-{name}" for kind in kinds for name in (VIT, SWIN))
    for path in drawn:
        with Image.open(path) as image:
            assert len(image.convert("L").getcolors() or ()) > 10, "not an empty sheet"
    none = replace(made, rows=(), means=())
    assert draw(none, [], tmp_path) == []
    unfinished = board(DEMO, missing=itertools.product(["linear", "arc"], DEMO))
    assert {path.stem for path in draw(unfinished, trials(unfinished), tmp_path)} == {
        "search-linear-pico",
        "search-arc-pico",
    }
