"""A pack gives each trial what it would get alone."""

import copy
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import SwinTransformer, VisionTransformer
from torch import Tensor, nn

from arc_train import adapt, adapter_state, load_adapter, memory
from arc_train.adaptation import trainable
from arc_train.methods import METHODS
from arc_train.pack import Member, Pack
from arc_train.precision import set_precision
from arc_train.seeding import seed_of


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5
    ).eval()


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Two batches in turn, so that there is something to learn."""
    draws = torch.Generator().manual_seed(1)
    two = [
        (torch.randn(8, 3, 16, 16, generator=draws), torch.randint(0, 4, (8,), generator=draws))
        for _ in range(2)
    ]
    return [two[step % 2] for step in range(steps)]


# What the trials of a pack differ in, beside lr and weight decay: whatever the method has.
# A head in closed form has no steps.
TRAINED = [name for name, method in METHODS.items() if not method.solve]
MIXED: dict[str, dict[str, list[float]]] = {
    "lora": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "repadapter": {"rank": [2, 6, 4], "scale": [1, 0.5, 2]},
    "adapter": {"rank": [2, 7, 5]},
    "adapter_houlsby": {"rank": [2, 7, 5]},
    "vpt_shallow": {"tokens": [3, 1, 3]},
    "vpt_deep": {"tokens": [3, 1, 3]},
    "adaptformer": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "adapter_plus": {"rank": [2, 7, 5]},
    "convpass": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "dora": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "fact_tt": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "fact_tk": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "vera": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "pvera": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "lora_xs": {"rank": [2, 7, 5], "scale": [1, 0.5, 2]},
    "arc": {"rank": [2, 7, 5]},
    "arc_att": {"rank": [2, 7, 5]},
}


def members(method: str, dropout: float = 0.0) -> list[Member]:
    configs = [
        {"lr": 3e-3, "weight_decay": 0.0},
        {"lr": 1e-2, "weight_decay": 0.05},
        {"lr": 1e-3, "weight_decay": 0.01},
    ]
    for i, config in enumerate(configs):
        config |= {name: values[i] for name, values in MIXED.get(method, {}).items()}
        accepted = inspect.signature(METHODS[method].attach).parameters
        config |= {name: dropout for name in ("dropout", "drop_path") if name in accepted}
    return [Member(f"trial{i}", config, seed=i) for i, config in enumerate(configs)]


def train(pack: Pack, images: Tensor, labels: Tensor, lr_scale: float) -> Tensor:
    """One step -> losses [T]."""
    schedule = pack.schedule([lr_scale])
    frozen = pack.method.trains != "blocks" and labels.ndim == 1
    inputs = pack.model.frozen(images) if frozen else images
    return pack.train_step(inputs, labels, schedule.clocks[0], schedule.seeds[0], frozen)


def logits(pack: Pack, images: Tensor) -> Tensor:
    frozen = pack.method.trains != "blocks"
    return pack.logits(pack.model.frozen(images) if frozen else images, frozen)


def losses(
    backbone: nn.Module, method: str, trials: list[Member], steps: int = 50, chunk: int = 16
) -> Tensor:
    """[steps, T] losses of a pack, in the order of `trials`."""
    pack = Pack(backbone, method, 4, trials, chunk=chunk)
    rows = []
    for step, (images, labels) in enumerate(batches(steps)):
        rows.append(train(pack, images, labels, min(1.0, (step + 1) / 10)))
    order = [[member.id for member in pack.members].index(trial.id) for trial in trials]
    return torch.stack(rows)[:, order]


def alone(backbone: nn.Module, method: str, member: Member, steps: int = 50) -> Tensor:
    """[steps] losses of one trial trained with torch's own AdamW and clipping."""
    hyper = {k: v for k, v in member.config.items() if k not in ("lr", "weight_decay")}
    draws = torch.Generator().manual_seed(Pack.init_seed(member))
    model = adapt(backbone, method, 4, generator=draws, **hyper).train()
    parameters = list(trainable(model).values())
    decay = member.config["weight_decay"]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p], "weight_decay": decay * (p.ndim > 2 or METHODS[method].decays_vectors)}
            for p in parameters
        ],
        lr=member.config["lr"],
    )
    rows = []
    for step, (images, labels) in enumerate(batches(steps)):
        for group in optimiser.param_groups:
            group["lr"] = member.config["lr"] * min(1.0, (step + 1) / 10)
        seed = seed_of(member.seed, "dropout", step) - 2**31
        model.noise.seeds = torch.tensor([seed], dtype=torch.int32)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rows.append(loss.detach())
    return torch.stack(rows)


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer(
        img_size=16,
        patch_size=2,
        window_size=4,
        embed_dim=12,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=5,
    ).eval()


def largest_difference(backbone: nn.Module, method: str, steps: int) -> float:
    """Between the losses of trials in a pack and alone."""
    trials = members(method, dropout=0.1)
    packed = losses(backbone, method, trials, steps)
    # Without something to learn this would mean little.
    assert packed[-1].min() < 0.9 * packed[0].min()
    separate = [alone(backbone, method, member, steps) for member in trials]
    return float((packed - torch.stack(separate, dim=1)).abs().max())


@pytest.mark.parametrize("method", ["linear", "arc_att", "arc"])
def test_a_pack_trains_each_trial_as_torch_does_alone(backbone: nn.Module, method: str) -> None:
    assert largest_difference(backbone, method, 50) < 1e-4


@pytest.mark.parametrize("family", ["backbone", "swin"])
@pytest.mark.parametrize("method", TRAINED)
def test_packing_is_exact_for_every_method(
    family: str, method: str, request: pytest.FixtureRequest
) -> None:
    """In double precision, where rounding can't hide a fault nor AdamW blow it up to one."""
    backbone = copy.deepcopy(request.getfixturevalue(family)).double()
    torch.set_default_dtype(torch.float64)
    try:
        assert largest_difference(backbone, method, 20) < 1e-8
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("method", "variant"), [("arc", {"placement": "residual"}), ("adapter", {"as_published": True})]
)
def test_variants_pack_like_the_methods_themselves(
    swin: nn.Module, method: str, variant: dict[str, str | bool]
) -> None:
    trials = [Member(m.id, {**m.config, **variant}, m.seed) for m in members(method)]
    packed = losses(swin, method, trials, steps=10)
    separate = torch.stack([alone(swin, method, member, steps=10) for member in trials], dim=1)
    assert (packed - separate).abs().max() < 1e-4
    assert (packed - losses(swin, method, members(method), steps=10)).abs().max() > 1e-4


@pytest.mark.parametrize("method", ["arc", "arc_att", "mlp"])
@pytest.mark.parametrize("chunk", [1, 2])
def test_chunks_and_company_change_nothing_with_dropout_on(
    backbone: nn.Module, method: str, chunk: int
) -> None:
    trials = members(method, dropout=0.3)
    together = losses(backbone, method, trials, steps=20)
    chunked = losses(backbone, method, trials, steps=20, chunk=chunk)
    single = torch.cat([losses(backbone, method, [t], steps=20) for t in trials], dim=1)
    assert (together - chunked).abs().max() < 1e-4
    assert (together - single).abs().max() < 1e-4
    without = losses(backbone, method, members(method), steps=20)
    assert (together - without).abs().max() > 1e-3, "dropout must be on for this to mean anything"


@settings(max_examples=15)
@given(st.permutations(range(4)), st.integers(1, 4))
def test_order_and_chunk_change_nothing_whatever_the_trials_differ_in(
    backbone: nn.Module, order: list[int], chunk: int
) -> None:
    mixed = [
        Member(str(i), {"lr": 3e-3, "weight_decay": 0.01, "rank": rank, "dropout": rate}, seed=i)
        for i, (rank, rate) in enumerate([(2, 0.3), (7, 0.0), (5, 0.1), (2, 0.6)])
    ]
    expected = losses(backbone, "arc", mixed, steps=8)
    found = losses(backbone, "arc", [mixed[i] for i in order], steps=8, chunk=chunk)
    assert (found - expected[:, order]).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["backbone", "swin"])
@pytest.mark.parametrize("method", TRAINED)
def test_bfloat16_touches_the_model_alone(
    family: str, method: str, request: pytest.FixtureRequest
) -> None:
    """As on a GPU: what is trained and the optimiser's state stay in float32."""
    backbone = request.getfixturevalue(family)
    lowered = set_precision(copy.deepcopy(backbone), torch.bfloat16)
    trials, data = members(method), batches(20)
    packs = [Pack(model, method, 4, trials) for model in (backbone, lowered)]
    for images, labels in data:
        exact, rounded = (train(pack, images, labels, 0.3) for pack in packs)
    state = (packs[1].rows, packs[1].optimizer.m, packs[1].optimizer.v, rounded)
    assert {t.dtype for t in state} == {torch.float32}
    difference = (exact - rounded).abs().max()
    assert 0 < difference < 0.1
    assert logits(packs[1], images).dtype == torch.float32


def test_padding_stays_exactly_zero(backbone: nn.Module) -> None:
    pack = Pack(backbone, "arc", 4, members("arc", dropout=0.1))
    for images, labels in batches(10):
        train(pack, images, labels, 1.0)
    down = pack.layout.views(pack.rows)["arc.attn.down"][0]
    assert down.shape == (24, 8)
    assert torch.count_nonzero(down[:, :2]) == 48
    assert torch.count_nonzero(down[:, 2:]) == 0
    assert pack.state(0)["arc.attn.down"].shape == (24, 2)


def test_a_diverged_trial_leaves_the_others_alone(backbone: nn.Module) -> None:
    trials = members("arc")
    clean = losses(backbone, "arc", trials, steps=10)
    broken = Member("broken", {**trials[1].config, "lr": float("inf")}, seed=9)
    mixed = losses(backbone, "arc", [trials[0], broken, trials[2]], steps=10)
    assert not torch.isfinite(mixed[-1, 1])
    assert (mixed[:, [0, 2]] - clean[:, [0, 2]]).abs().max() < 1e-4


def test_a_resumed_pack_is_bit_equal(backbone: nn.Module) -> None:
    trials, data = members("arc", dropout=0.2), batches(20)
    through = Pack(backbone, "arc", 4, trials)
    for images, labels in data:
        train(through, images, labels, 1.0)
    first = Pack(backbone, "arc", 4, trials)
    for images, labels in data[:7]:
        train(first, images, labels, 1.0)
    second = Pack(backbone, "arc", 4, trials)
    second.load_state_dict(first.state_dict())
    for images, labels in data[7:]:
        train(second, images, labels, 1.0)
    assert torch.equal(through.rows, second.rows)


def test_dropping_trials_keeps_the_rest_on_course(backbone: nn.Module) -> None:
    trials, data = members("arc"), batches(20)
    whole = losses(backbone, "arc", trials, steps=20)
    pack = Pack(backbone, "arc", 4, trials)
    for step, (images, labels) in enumerate(data):
        if step == 8:
            pack.keep([2])
        loss = train(pack, images, labels, min(1.0, (step + 1) / 10))
    assert abs(loss[0] - whole[-1, 2]) < 1e-4


def test_own_batches_per_trial_equal_separate_packs(backbone: nn.Module) -> None:
    trials, data = members("arc")[:2], batches(10)
    pack = Pack(backbone, "arc", 4, trials)
    for (x0, y0), (x1, y1) in zip(data, reversed(data), strict=True):
        both = train(pack, torch.stack([x0, x1]), torch.stack([y0, y1]), 1.0)
    second = Pack(backbone, "arc", 4, [trials[1]])
    for images, labels in reversed(data):
        single = train(second, images, labels, 1.0)
    assert abs(both[1] - single[0]) < 1e-4


@pytest.mark.parametrize("method", TRAINED)
def test_a_trials_state_loads_into_an_adapted_model_with_the_same_logits(
    backbone: nn.Module, method: str
) -> None:
    pack = Pack(backbone, method, 4, members(method))
    data = batches(5)
    for images, labels in data:
        train(pack, images, labels, 1.0)
    images = data[0][0]
    expected = logits(pack, images)
    for index, member in enumerate(pack.members):
        hyper = {k: v for k, v in member.config.items() if k not in ("lr", "weight_decay")}
        model = adapt(backbone, method, 4, **hyper).eval()
        load_adapter(model, pack.state(index))
        with torch.no_grad():
            assert (model(images) - expected[index]).abs().max() < 1e-5
        assert set(adapter_state(model)) == set(pack.state(index))


def test_running_out_of_memory_halves_the_chunk_and_carries_on(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = members("arc")
    expected = losses(backbone, "arc", trials, steps=3)
    pack = Pack(backbone, "arc", 4, trials, chunk=4)
    bind = pack._bind

    def limited(chunk: slice, rows: Tensor) -> None:
        if chunk.stop - chunk.start > 1:
            raise torch.OutOfMemoryError("pretend")
        bind(chunk, rows)

    monkeypatch.setattr(pack, "_bind", limited)
    for step, (images, labels) in enumerate(batches(3)):
        got = train(pack, images, labels, (step + 1) / 10)
    assert pack.chunk == 1
    assert (got - expected[-1]).abs().max() < 1e-4


def test_a_chunk_is_as_many_trials_as_memory_holds(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = members("arc", dropout=0.2)
    expected = losses(backbone, "arc", trials, steps=5)
    (images, labels), *_ = batches(1)
    found = []
    for room in (1, 10**9):
        monkeypatch.setattr(memory, "CPU_BYTES", room)
        pack = Pack(backbone, "arc", 4, trials)
        first = train(pack, images, labels, 0.1)
        found.append(pack.chunk)
        order = [[member.id for member in pack.members].index(trial.id) for trial in trials]
        assert (first[order] - expected[0]).abs().max() < 1e-5, "measuring changes nothing"
    assert found == [1, 3]


def test_a_checkpoint_of_another_layout_is_refused_whole(backbone: nn.Module) -> None:
    pack = Pack(backbone, "arc", 4, members("arc"))
    before = pack.rows.clone()
    state = {name: value for name, value in pack.state_dict().items() if name != "layout"}
    with pytest.raises(ValueError, match="laid out otherwise"):
        pack.load_state_dict({**state, "rows": before + 1})
    assert torch.equal(pack.rows, before)
