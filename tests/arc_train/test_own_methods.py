"""A user's own method: found by its dotted name, named by its source, or refused in one line."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from arc_train import InputError, adapt, adapter_state, backbones, fold, load_adapter
from arc_train.backbones import Backbone
from arc_train.methods import METHODS, own, recommended
from arc_train.pack import Member, Pack

EXAMPLES = Path(__file__).parents[2] / "examples"
IA3 = "my_methods.ia3"
Write = Callable[..., None]
FAMILIES = {
    "vit": Backbone(
        "vit",
        "vit_tiny_patch16_224",
        "random",
        {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2},
    ),
    "swin": Backbone(
        "swin",
        "swin_tiny_patch4_window7_224",
        "random",
        {"img_size": 32, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4},
    ),
}


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules of the package `mine`, unknown to every other test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**modules: str) -> None:
        for name, text in modules.items():
            path = tmp_path / "mine" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(dedent(text))
        _forget()

    yield write
    _forget()


def _forget() -> None:
    own.load.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_example_starts_as_the_backbone_and_folds(family: str) -> None:
    backbone = backbones.build(FAMILIES[family])
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = adapt(backbone, IA3, 5)
    with torch.no_grad():
        before = model.features(images)
        assert torch.allclose(
            before,
            backbone.forward_head(backbone.forward_features(images), pre_logits=True),  # type: ignore[operator]
        )
        state = {k: v + 0.3 * torch.randn_like(v) for k, v in adapter_state(model).items()}
        load_adapter(model, state)
        assert not torch.allclose(model.features(images), before, atol=1e-3)
        assert torch.allclose(fold(model)(images), model(images), atol=1e-4)


def test_the_example_in_a_pack_is_what_it_is_alone() -> None:
    backbone = backbones.build(FAMILIES["vit"])
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    members = [Member(str(i), {"lr": 10.0**-i, "weight_decay": 0.0}, i) for i in (1, 2)]

    def trained(members: list[Member]) -> dict[str, dict[str, torch.Tensor]]:
        pack = Pack(backbone, IA3, 4, members)
        schedule = pack.schedule([1.0] * 3)
        for clock, seed in zip(schedule.clocks, schedule.seeds, strict=True):
            pack.train_step(images, labels, clock, seed, False)
        return {member.id: pack.state(i) for i, member in enumerate(pack.members)}

    together = trained(members)
    for member in members:
        alone = trained([member])[member.id]
        assert all(torch.allclose(alone[k], together[member.id][k], atol=1e-6) for k in alone)
    assert not torch.equal(together["1"]["ia3.0.kv"], together["2"]["ia3.0.kv"])


def test_a_module_of_two_functions_is_a_method(write: Write) -> None:
    write(plain="def attach(backbone, parts): parts.trained.zeros('x', 2)\ndef fold(b): pass\n")
    model = adapt(backbones.build(FAMILIES["vit"]), "mine.plain", 3)
    assert set(adapter_state(model)) == {"x", "head.weight", "head.bias"}
    assert recommended("mine.plain") == recommended("bias")
    assert "mine.plain" not in METHODS


def test_the_example_says_what_is_searched() -> None:
    said = recommended(IA3)
    assert said.space["lr"] == {"log": [1e-3, 1e-1]}
    assert said.first == {"lr": 1e-2, "weight_decay": 0}


WRONG = {
    "absent.one": ("no module 'absent'", {}),
    "mine.absent": ("no module 'mine.absent'", {"other": ""}),
    "mine.syntax": ("SyntaxError at .*syntax.py:2", {"syntax": "\ndef attach(:\n"}),
    "mine.fails": ("ZeroDivisionError at .*fails.py:1: division by zero", {"fails": "1 / 0"}),
    "mine.exits": ("SystemExit at .*exits.py:1", {"exits": "raise SystemExit(3)"}),
    "mine.needs": ("ModuleNotFoundError at .*needs.py:1.*absent", {"needs": "import absent"}),
    "mine.half": ("neither METHOD nor fold", {"half": "def attach(b, p): pass"}),
    "mine.number": ("must be an arc_train.methods.Method, found int", {"number": "METHOD = 3"}),
    "mine.lora": ("called as the built-in 'lora': rename", {"lora": ""}),
    "arc_train.methods.lora": ("called as the built-in 'lora'", {}),
    "mine.rankless": (
        "attach takes no 'rank', which is searched",
        {
            "rankless": """
            from arc_train.methods import Method
            METHOD = Method(lambda b, p: None, lambda b: None, ranked=True)
            """
        },
    ),
    "mine.wants": ("'x' of attach needs a default", {"wants": "def attach(b, p, x): 0\nfold = id"}),
    "methods/mine.py": ("no module", {}),
    "mine..x": ("no module|can't be imported", {"other": ""}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_method_is_refused_in_one_line(name: str, write: Write) -> None:
    says, modules = WRONG[name]
    write(**modules)
    with pytest.raises(InputError, match=says) as caught:
        METHODS[name]
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_name_without_a_dot_is_no_module() -> None:
    with pytest.raises(KeyError, match="unknown method 'lorra'"):
        adapt(backbones.build(FAMILIES["vit"]), "lorra", 2)


def test_the_digest_covers_what_the_method_is_made_of(write: Write) -> None:
    files = {
        "method": "from . import layers\nfrom mine.constants import K\nattach = fold = layers.f\n",
        "layers": "import mine.deep\ndef f(backbone, parts): pass\n",
        "deep": "",
        "constants": "K = 1\n",
        "other": "",
    }
    write(**files)
    first = own.source("mine.method")
    assert first == own.source("mine.method")
    for name in files:
        write(**files | {name: files[name] + "# changed\n"})
        assert (own.source("mine.method").digest == first.digest) == (name == "other"), name


def test_a_node_with_another_source_is_refused(write: Write, tmp_path: Path) -> None:
    text = "def attach(backbone, parts): pass\nfold = attach\n"
    write(method=text)
    wanted = own.source("mine.method")
    assert wanted.folder == str(tmp_path)
    own.require("mine.method", wanted)
    write(method=text + "# newer\n")
    with pytest.raises(InputError, match=r"this node's source in .* differs from the driver's"):
        own.require("mine.method", wanted)
