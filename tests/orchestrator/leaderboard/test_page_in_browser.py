"""The page as a person has it: a real browser opens, sorts, filters and reads it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from arc_train.methods import METHODS
from orchestrator.cli import main
from orchestrator.leaderboard.board import Cost
from orchestrator.leaderboard.page import page
from orchestrator.leaderboard.paired import Pair
from tests.orchestrator.leaderboard.test_contrast import digits
from tests.orchestrator.leaderboard.test_page import (
    DEMO,
    EVIL,
    FGVC,
    SWIN,
    VIT,
    VTAB,
    Board,
    board,
    calibrated,
    metered,
    published,
    trials,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@dataclass
class Opened:
    """A page in a browser, and what it complained of or asked the network for."""

    tab: Any
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.tab.locator(selector).all_inner_texts()]

    def methods(self) -> list[str]:
        """Those that the table shows, in its order."""
        return self.texts("#leaderboard tbody tr:visible th > span")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def show(browser: Any, folder: Path, made: Board, **options: Any) -> Opened:
    path = folder / "page.html"
    path.write_text(page(made, trials(made)), encoding="utf-8")
    opened = opened_at(browser, path, **options)
    opened.tab.wait_for_selector("html[data-ready]", state="attached")
    return opened


def opened_at(browser: Any, path: Path, **options: Any) -> Opened:
    opened = Opened(browser.new_page(**options))
    opened.tab.set_default_timeout(0)  # however slow the machine is
    opened.tab.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.tab.on(
        "console",
        lambda said: opened.faults.append(said.text) if said.type == "error" else None,
    )
    opened.tab.on("request", lambda request: opened.requests.append(request.url))
    opened.tab.goto(path.as_uri())
    return opened


def full() -> Board:
    made = board({**VTAB, **FGVC}, [f"method_{i}" for i in range(12)], ["a", "b", "c", "d"])
    return paired(made)


def paired(made: Board) -> Board:
    """With every pair of methods on each task and over all: told apart above two points."""
    places = [("task", task) for task in dict.fromkeys(row.task for row in made.rows)]
    pairs = []
    for backbone in dict.fromkeys(row.backbone for row in made.rows):
        methods = list(dict.fromkeys(row.method for row in made.rows))
        for (scope, task), names in product([*places, ("mean", None)], combinations(methods, 2)):
            gap = float(methods.index(names[1]) - methods.index(names[0]))
            p = 0.5 if gap < 2 else 0.0004
            ends = (gap - 1.5, gap + 1.5)
            pairs.append(Pair(backbone, scope, task, names, gap, ends, 0.9, p, p, "drawn"))
    return replace(made, pairs=tuple(pairs))


@pytest.mark.parametrize("kind", ["demo", "harmful", "published", "nothing", "large"])
@pytest.mark.parametrize("width", [380, 1600])
def test_it_opens_without_fault_request_or_overflow(
    browser: Any, tmp_path: Path, kind: str, width: int
) -> None:
    name = EVIL if kind == "harmful" else "arc"
    made = metered(board({**DEMO, name: "demo"}, ["linear", name], ["a", name], sweep=name))
    made = paired(made)
    if kind == "published":
        made = published(backbones=[VIT, SWIN])
    if kind == "nothing":
        made = replace(made, rows=(), means=())
    if kind == "large":
        made = full()
    opened = show(browser, tmp_path, made, viewport={"width": width, "height": 900})
    assert opened.faults == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.tab.locator("#leaderboard tbody tr").count() == len(made.means)
    drawn = opened.tab.locator(".js-plotly-plot:visible").count()
    assert drawn == (0 if kind == "nothing" else 6)


SHIFTS = """
window.shifted = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    shifted.push(...entry.sources.map(({ node }) => node && node.outerHTML.slice(0, 80)));
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize("kind", ["demo", "published", "large"])
@pytest.mark.parametrize("width", [380, 1600])
def test_nothing_moves_once_it_is_seen(browser: Any, tmp_path: Path, kind: str, width: int) -> None:
    made = {"demo": lambda: paired(board(DEMO)), "published": published, "large": full}[kind]()
    path = tmp_path / "page.html"
    path.write_text(page(made, trials(made)), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 5000})  # all of it is in view
    tab.set_default_timeout(0)
    tab.add_init_script(SHIFTS)
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
    assert tab.evaluate("shifted") == []


MOVED = """
[...document.querySelectorAll(".top")].map((top) => {
  const [heading, ...beside] = top.children, at = heading.getBoundingClientRect().top;
  for (const part of beside) part.style.display = "none";
  return heading.getBoundingClientRect().top - at;
}).filter((by) => by)
"""


@pytest.mark.parametrize("width", [380, 700, 1600])
def test_headings_stand_where_they_stay_before_what_is_beside_them_is_read(
    browser: Any, tmp_path: Path, width: int
) -> None:
    size = {"width": width, "height": 900}
    made = paired(board(DEMO, ["arc", "lora"], ["a", "b"]))
    opened = show(browser, tmp_path, made, viewport=size)
    assert opened.tab.evaluate(MOVED) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1600])
def test_axe_finds_no_serious_fault(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    made = paired(published(backbones=[VIT, SWIN]))
    size = {"width": width, "height": 900}
    opened = show(browser, tmp_path, made, color_scheme=scheme, viewport=size)
    found = Axe().run(opened.tab).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 380), ("dark", 1600)])
def test_a_comparison_with_pictures_opens_without_fault_or_overflow(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "compared.html"
    place = str(digits(tmp_path / "s", 20).path)
    assert main(["compare", place, "arc", "linear", "--page", str(path)]) == 0
    opened = opened_at(browser, path, color_scheme=scheme, viewport={"width": width, "height": 900})
    sizes = opened.tab.eval_on_selector_all("img", "all => all.map((one) => one.naturalWidth)")
    assert sizes == [32] * 12
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(opened.tab).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []
    assert opened.faults == []
    assert all(url.startswith(("file:", "data:")) for url in opened.requests)


def test_sorting_by_a_click_and_by_keyboard(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, board(DEMO, ["linear", "arc_att", "arc"]))
    assert opened.methods() == ["arc", "arc_att", "linear"]
    digits = opened.tab.locator("#leaderboard th[data-key='demo/digits']")
    digits.locator("button").click()
    assert digits.get_attribute("aria-sort") == "descending"
    digits.locator("button").press("Enter")
    assert digits.get_attribute("aria-sort") == "ascending"
    assert opened.methods() == ["linear", "arc_att", "arc"]


def test_filters_show_what_is_asked_for(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, full())
    opened.tab.fill("#by-method", "_3, _7")
    assert set(opened.methods()) == {"method_3", "method_7"}
    opened.tab.select_option("#by-backbone", "b")
    assert sorted(opened.methods()) == ["method_3", "method_7"]
    assert opened.texts("#leaderboard tbody tr:visible th small") == ["b", "b"]
    opened.tab.select_option("#by-group", "specialized")
    columns = opened.tab.locator("#leaderboard thead th:visible").evaluate_all(
        "heads => heads.map((head) => head.dataset.key)"
    )
    own = [f"vtab/specialized{i}" for i in range(4)]
    assert set(columns) == {None, "specialized", "params_mean", *own}
    opened.tab.select_option("#by-group", "")
    opened.tab.select_option("#by-backbone", "")
    opened.tab.fill("#by-method", "")
    assert len(opened.methods()) == 48


def test_every_method_there_is_can_be_narrowed_to_a_family(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, board(DEMO, [*METHODS, "my.own"]))
    opened.tab.select_option("#by-family", "prompt")
    assert set(opened.methods()) == {"vpt_shallow", "vpt_deep"}
    opened.tab.select_option("#by-family", "other")
    assert opened.methods() == ["my.own"]
    opened.tab.select_option("#by-family", "shared")
    assert {"arc", "vera", "lora_xs"} < set(opened.methods())
    assert "lora" not in opened.methods()


def test_pointing_at_a_number_tells_the_winning_configuration(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, board(DEMO))
    cell = opened.tab.locator("#leaderboard tbody td[data-i]").first
    cell.hover()
    assert "rank 8, lr 0.01" in opened.tab.inner_text("#detail")
    opened.tab.mouse.move(0, 0)
    cell.focus()
    opened.tab.keyboard.press("ArrowRight")
    opened.tab.keyboard.press("Enter")
    assert "Winner: rank 8, lr 0.01" in opened.tab.inner_text("#winner")


def test_pairs_of_methods_stand_in_a_matrix(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, paired(board(DEMO, ["arc", "lora", "linear"])))
    assert opened.texts("#pairs tbody th") == ["arc", "lora", "linear"]
    cells = ["·", "+1.0", "+2.0", "−1.0", "·", "+1.0", "−2.0", "−1.0", "·"]
    assert opened.texts("#pairs tbody td") == cells
    assert opened.texts("#pairs .above, #pairs .below") == ["+2.0", "−2.0"]
    opened.tab.locator("#pairs .below").hover()
    told = "linear against arc: −2.0 points, 95 % interval −3.5 to −0.5; better with probability"
    assert opened.texts("#pair") == [f"{told} 10.0 %; p < 0.001, corrected < 0.001 (drawn)"]
    opened.tab.locator("#pairs td").first.focus()
    opened.tab.keyboard.press("ArrowRight")
    assert opened.texts("#pair")[0].startswith("arc against lora: +1.0 points")
    opened.tab.select_option("#pairs-on", "task:demo/count")
    assert opened.texts("#pairs tbody td") == cells
    assert not opened.faults


def test_a_button_shows_calibration_and_pointing_tells_it(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, calibrated(board(DEMO)))
    seen = opened.tab.locator("#leaderboard tbody tr:first-child td.quality:visible")
    assert seen.count() == 0
    opened.tab.click("#calibration")
    assert [text.split() for text in seen.all_inner_texts()[1:]] == [["4.5", "*"], ["0.789", "*"]]
    opened.tab.click("#leaderboard th[data-key='ece'] button")
    assert opened.tab.get_attribute("#leaderboard th[data-key='ece']", "aria-sort") == "ascending"
    opened.tab.hover("#leaderboard tbody tr:first-child td.quality >> nth=2")
    assert "cross-entropy in nats, mean over tasks" in opened.texts("#detail")[0]
    assert "digits 0.789" in opened.texts("#detail")[0]
    opened.tab.hover("#leaderboard tbody tr:first-child td.task")
    assert "calibration error 4.5 %, cross-entropy 0.789 nats" in opened.texts("#detail")[0]
    assert not opened.faults


def test_accuracy_stands_against_what_finals_cost(browser: Any, tmp_path: Path) -> None:
    made = board(DEMO)
    rows = [
        replace(row, cost=Cost(2.0 + i, 100.0, 10**9 * (1 + i), None if i else 5000.0))
        for i, row in enumerate(made.rows)
    ]
    opened = show(browser, tmp_path, replace(made, rows=tuple(rows)))
    assert opened.texts("#against option") == [
        *("trainable parameters", "time of a final", "peak memory", "energy of a final")
    ]
    for key, values in (("seconds", [3, 6]), ("memory", [3, 6]), ("energy", [5])):
        opened.tab.select_option("#against", key)
        across = opened.tab.evaluate("$('params').data.flatMap((trace) => trace.x)")
        assert across == pytest.approx(values)
    assert opened.texts("#h-cost >> xpath=ancestor::section >> css=tbody tr") == [
        "linear\t3.0\t100\t3.00 GB\t–",
        "arc\t6.0\t100\t6.00 GB\t–",
    ]
    plain = show(browser, tmp_path, made)
    assert not plain.tab.locator("#against").is_visible()
    assert plain.faults == opened.faults == []


def test_hidden_cells_are_no_stop_for_the_tab_key(browser: Any, tmp_path: Path) -> None:
    opened = show(browser, tmp_path, full())
    opened.tab.select_option("#by-backbone", "d")
    stops = opened.tab.locator("#leaderboard td[tabindex='0']")
    assert stops.count() == 1
    assert stops.is_visible()
