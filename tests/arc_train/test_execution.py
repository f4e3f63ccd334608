"""What a step of a pack costs in calls, and that no way to run it is trusted unchecked."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import SwinTransformer, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import arc_train
from arc_train.execution import Stepper
from arc_train.pack import Member, Pack
from arc_train.structure import blocks

BATCH = 32


def members(count: int, dropout: float = 0.1) -> list[Member]:
    config = {"lr": 1e-3, "weight_decay": 0.01, "dropout": dropout}
    return [Member(str(i), {**config, "rank": (10, 25, 50)[i % 3]}, i) for i in range(count)]


class Attention(torch.autograd.Function):
    """Attention as the one operation that a GPU's kernel is; the meta device has none."""

    backwards = 0

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.empty_like(q)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        Attention.backwards += 1
        parts = torch.empty((3, *gradient.shape), device=gradient.device)
        return parts[0], parts[1], parts[2]


class Calls(TorchDispatchMode):
    """Counts calls that launch a kernel: neither views nor allocations.

    shapes: of what the calls give.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        quiet = ("empty", "detach", "alias", "_unsafe_view", "_reshape_alias", "prim", "lift_fresh")
        if not func.is_view and not any(part in name for part in quiet):
            self.count[name] += 1
        given = func(*args, **(kwargs or {}))
        if isinstance(given, Tensor):
            self.shapes.add(tuple(given.shape))
        return given


def step(trials: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Calls, int, float]:
    """(calls, backward passes of attention, FLOPs over twice the forward pass's) of one step."""
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, **_: Attention.apply(q, k, v)
    )
    with torch.device("meta"):
        backbone = timm.create_model("vit_base_patch16_224").eval().requires_grad_(False)
    pack = Pack(backbone, "arc", 100, members(trials), chunk=trials)
    pack.rows = pack.rows.to("meta")
    schedule = pack.schedule([1.0])
    images = torch.empty(BATCH, 3, 224, 224, device="meta")
    labels = torch.empty(BATCH, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as whole:
        pack.train_step(images, labels, schedule.clocks[0], schedule.seeds[0])
    Attention.backwards = 0
    with (calls := Calls()):
        pack.train_step(images, labels, schedule.clocks[0], schedule.seeds[0])
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        pack.model.logits(images, shared=True)
    ratio = whole.get_total_flops() / (2 * forward.get_total_flops())
    return calls, Attention.backwards, ratio


def test_a_step_makes_few_calls_and_as_many_for_two_trials_as_for_sixteen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, _, _ = step(2, monkeypatch)
    many, backwards, flops = step(16, monkeypatch)
    assert many.count == few.count
    assert many.count.total() / 16 <= 56
    frozen = [(768, 2304), (768, 768), (768, 3072)]
    copies = [(16, *shape[::turn]) for shape in frozen for turn in (1, -1)]
    assert not many.shapes.intersection(copies), "no frozen weight is copied for each trial"
    assert backwards == 12, "attention's backward pass runs once for each block"
    assert abs(flops - 1) < 0.02, "frozen weights get no gradient"


def test_the_trial_dimension_and_the_types_are_written_out() -> None:
    sources = Path(arc_train.__file__).parent.rglob("*.py")
    words = ("functorch", "torch.func", "vmap", "autocast")
    found = [(path.name, word) for path in sources for word in words if word in path.read_text()]
    assert found == []


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5
    ).eval()


def run(backbone: nn.Module, how: Any, steps: int = 4) -> tuple[Tensor, Stepper]:
    """[T, P] after some steps, and what ran them."""
    pack = Pack(backbone, "arc", 4, members(3))
    stepper = Stepper(pack, frozen=False, wanted=how)
    schedule = pack.schedule([1.0] * steps)
    draws = torch.Generator().manual_seed(0)
    for clock, seeds in zip(schedule.clocks, schedule.seeds, strict=True):
        images = torch.randn(8, 3, 16, 16, generator=draws)
        stepper(images, torch.randint(0, 4, (8,), generator=draws), clock, seeds)
    return pack.rows, stepper


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_compiled_blocks_give_what_eager_ones_do(backbone: nn.Module) -> None:
    expected, _ = run(backbone, "eager")
    found, stepper = run(backbone, "compiled")
    assert stepper.problem is None
    assert stepper.used == "compiled"
    assert (found - expected).abs().max() < 1e-4


def test_what_cannot_be_captured_goes_on_eagerly_and_says_so(backbone: nn.Module) -> None:
    """Without a GPU a graph can't be captured at all."""
    expected, _ = run(backbone, "eager")
    found, stepper = run(backbone, "graph")
    assert torch.equal(found, expected)
    assert stepper.used == "eager"
    assert "graph" in str(stepper.problem)


def test_a_step_that_disagrees_with_an_eager_one_is_not_used(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = run(backbone, "eager")

    def wrong(self: Stepper) -> Any:
        def step(inputs: Tensor, *rest: Tensor) -> Tensor:
            return self._eager(inputs + 0.1, *rest)

        return step

    monkeypatch.setattr(Stepper, "_compiled", wrong)
    found, stepper = run(backbone, "compiled")
    assert torch.equal(found, expected)
    assert stepper.used == "eager"
    assert "differ from an eager step's" in str(stepper.problem)


def test_a_small_tensor_whose_gradient_is_wrong_is_found(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = "arc.attn.coeff.0"

    def wrong(self: Stepper) -> Any:
        def step(*batch: Tensor) -> Tensor:
            losses = self._eager(*batch)
            m = self.pack.optimizer.m
            part = self.pack.layout.views(m)[spoiled]
            part.mul_(1 + 5e-4 * m.norm() / part.norm())  # of all it is less than is allowed
            return losses

        return step

    monkeypatch.setattr(Stepper, "_compiled", wrong)
    _, stepper = run(backbone, "compiled")
    assert stepper.used == "eager"
    assert f"gradients of {spoiled} differ" in str(stepper.problem)


def test_a_kind_that_is_given_up_leaves_the_others_open(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU blocks are compiled for many trials, and steps captured once few are left."""
    tried = []

    def fails(self: Stepper) -> Any:
        tried.append("compiled")
        raise RuntimeError("no compiler")

    def captured(self: Stepper, run: Any, *batch: Tensor) -> Any:
        tried.append("graph")
        return run

    monkeypatch.setattr(Stepper, "_compiled", fails)
    monkeypatch.setattr(Stepper, "_graph", captured)
    pack = Pack(backbone, "arc", 4, members(6))
    stepper = Stepper(pack, frozen=False)
    many = {True: "compiled", False: "graph"}
    monkeypatch.setattr(stepper, "_best", lambda _: many[len(pack.members) > 4])
    images, labels = torch.randn(8, 3, 16, 16), torch.randint(0, 4, (8,))
    used = []
    for alive in (6, 5, 3, 2):
        pack.keep(list(range(alive)))
        schedule = pack.schedule([1.0])
        stepper(images, labels, schedule.clocks[0], schedule.seeds[0])
        used.append(stepper.used)
    assert used == ["eager", "eager", "graph", "graph"]
    assert tried == ["compiled", "graph", "graph"], "what is given up isn't tried again"
    assert stepper.problem == "compiled: RuntimeError: no compiler"


@pytest.mark.parametrize("method", arc_train.METHODS)
@pytest.mark.parametrize("family", ["vit", "swin"])
def test_what_is_compiled_is_what_runs(method: str, family: str) -> None:
    """Each block that `_compiled` would compile is called; none is bypassed."""
    small: dict[str, Any] = {"img_size": 32, "num_heads": 2, "num_classes": 0}
    if family == "swin":
        small |= {"patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (1, 2)}
        model = SwinTransformer(**small | {"num_heads": (2, 2)})
    else:
        model = VisionTransformer(**small | {"patch_size": 8, "embed_dim": 24, "depth": 2})
    adapted = arc_train.adapt(model, method, 3)
    called: Counter[nn.Module] = Counter()
    for block in blocks(adapted.backbone):
        block.register_forward_hook(lambda module, *_: called.update([module]))
    with torch.no_grad():
        adapted(torch.zeros(2, 3, 32, 32))
    assert called == dict.fromkeys(blocks(adapted.backbone), 1)
