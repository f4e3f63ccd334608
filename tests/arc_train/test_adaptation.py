"""`adapt` trains exactly what a method says, starts where it says, and folds where it says."""

import copy
import itertools
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load, save
from torch import nn

from arc_train import InputError, NotFoldable, adapt, adapter_state, fold, load_adapter
from arc_train.adaptation import trainable
from arc_train.methods import METHODS

CLASSES = 5
FAMILIES = {
    "plain": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 16, "depth": 2}),
    "no class token, average pooling": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "depth": 2, "class_token": False, "global_pool": "avg"},
    ),
    "no qkv bias": ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2, "qkv_bias": False}),
    "layer scale, registers": (
        "vit_small_patch14_reg4_dinov2",
        {"img_size": 28, "depth": 2, "embed_dim": 48, "num_heads": 3},
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)},
    ),
}
NOT_FOLDABLE = {
    "knn": "training images",
    "mlp": "hidden layers",
    "adapter": "GELU",
    "adapter_houlsby": "GELU",
    "adaptformer": "ReLU",
    "adapter_plus": "GELU",
    "convpass": "convolution",
    "vpt_shallow": "tokens",
    "vpt_deep": "tokens",
}
CASES = [(method, family) for method in METHODS for family in FAMILIES]
TRAINED = [(method, family) for method, family in CASES if not METHODS[method].solve]
HYPER: dict[str, dict[str, Any]] = {
    "knn": {"images": 6, "k": 3},
    "vpt_shallow": {"tokens": 3},
    "vpt_deep": {"tokens": 3},
    "mlp": {"layers": 2},
    "lora": {"rank": 4, "scale": 0.5},
    "repadapter": {"rank": 4, "scale": 0.5},
}


def hyper(method: str) -> dict[str, Any]:
    return HYPER.get(method, {"rank": 4} if METHODS[method].ranked else {})


def make(family: str = "plain") -> nn.Module:
    name, args = FAMILIES[family]
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **args).eval()
    return model


def images(model: nn.Module) -> torch.Tensor:
    side = model.patch_embed.img_size[0]  # type: ignore[union-attr, index]
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def shake(model: nn.Module) -> None:
    """Random values in everything that is trained."""
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))


def intended(method: str, model: Any) -> dict[str, tuple[int, ...]]:
    """Trained tensors as facts/methods.md lists them, written out without the code under test."""
    swin = hasattr(model, "layers")
    layers = model.layers if swin else [model]
    blocks = [(s, b) for s, layer in enumerate(layers) for b in layer.blocks]
    widths = [block.norm1.weight.shape[0] for _, block in blocks]
    width = model.num_features
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (CLASSES, width), "head.bias": (CLASSES,)}
    own = {
        name: tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("head.")
    }
    last = "layers.1.blocks.1." if swin else "blocks.1."
    if method == "full":
        shapes |= own
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    if method in ("layernorm", "difffit"):
        shapes |= {n: shape for n, shape in own.items() if n.rpartition(".")[0] in norms}
    if method in ("bias", "difffit"):
        shapes |= {name: shape for name, shape in own.items() if "bias" in name}
    if method == "partial":
        shapes |= {n: s for n, s in own.items() if n.startswith((last, "norm.", "fc_norm."))}
    if method == "mlp":
        for k in range(2):
            shapes |= {f"mlp.layers.{k}.weight": (width, width), f"mlp.layers.{k}.bias": (width,)}
    if method in ("vpt_shallow", "vpt_deep"):
        depth = 1 if method == "vpt_shallow" else len(blocks)
        shapes |= {f"prompt.{i}": (3, d) for i, d in enumerate(widths[:depth])}
    for position in {"arc": ("attn", "mlp"), "arc_att": ("attn",)}.get(method, ()):
        for stage, d in {stage: d for (stage, _), d in zip(blocks, widths, strict=True)}.items():
            shapes[f"arc.{position}.down" + (f".stage{stage}" if swin else "")] = (d, 4)
        for i, d in enumerate(widths):
            shapes[f"arc.{position}.coeff.{i}"] = (4,)
            shapes[f"arc.{position}.bias.{i}"] = (d,)
    for i, d in enumerate(widths):
        if method == "lora":
            for part in ("q", "v"):
                shapes |= {f"lora.{i}.{part}.A": (4, d), f"lora.{i}.{part}.B": (d, 4)}
        if method in ("adapter", "adapter_houlsby"):
            for position in ("attn", "mlp") if method == "adapter_houlsby" else ("mlp",):
                key = f"adapter.{position}.{i}"
                shapes |= {f"{key}.down.weight": (4, d), f"{key}.down.bias": (4,)}
                shapes |= {f"{key}.up.weight": (d, 4), f"{key}.up.bias": (d,)}
        if method == "repadapter":
            for position in ("attn", "mlp"):
                key = f"repadapter.{position}.{i}"
                shapes |= {f"{key}.down": (2, 2, d), f"{key}.down_bias": (2, 2)}
                shapes |= {f"{key}.up": (2, 2, d // 2), f"{key}.up_bias": (d,)}
        if method == "vera":
            for part in ("q", "v"):
                shapes |= {f"vera.{i}.{part}.d": (4,), f"vera.{i}.{part}.b": (d,)}
        if method == "dora":
            for key in (f"dora.{i}.q", f"dora.{i}.v"):
                shapes |= {f"{key}.A": (4, d), f"{key}.B": (d, 4), f"{key}.magnitude": (d,)}
        if method == "pvera":
            for part in ("q", "v"):
                shapes |= {f"pvera.{i}.{part}.d": (2, 4), f"pvera.{i}.{part}.b": (d,)}
        positions = {"adaptformer": [""], "adapter_plus": [""], "convpass": ["attn.", "mlp."]}
        for position in positions.get(method, ()):
            key = f"{method}.{position}{i}"
            shapes |= {f"{key}.down.weight": (4, d), f"{key}.down.bias": (4,)}
            shapes |= {f"{key}.up.weight": (d, 4), f"{key}.up.bias": (d,)}
            if method == "adapter_plus":
                shapes[f"{key}.gain"] = (d,)
            if method == "convpass":
                shapes |= {f"{key}.conv.weight": (4, 4, 3, 3), f"{key}.conv.bias": (4,)}
        layers = {"qkv": (3, 1), "proj": (1, 1), "fc1": (4, 1), "fc2": (1, 4)}
        for name, (out, into) in layers.items():
            if method == "fact_tt":
                shapes[f"fact_tt.{i}.{name}.S"] = (max(out, into), 4, 4)
            if method == "fact_tk":
                shapes[f"fact_tk.{i}.{name}.P"] = (max(out, into), 4)
            if method == "rlrr":
                key, k = f"rlrr.{i}.{name}", 3 if name == "qkv" and not swin else 1
                shapes |= {
                    f"{key}.l": (out * d, 1),
                    f"{key}.c": (k, into * d),
                    f"{key}.f": (out * d,),
                }
        if method == "lora_xs":
            shapes |= {f"lora_xs.{i}.{name}.R": (4, 4) for name in ("qkv", "proj", "fc1", "fc2")}
        if method == "difffit":
            shapes |= {f"difffit.{i}.{name}": (d,) for name in ("proj", "fc2")}
    if method in ("fact_tt", "fact_tk"):
        for (stage, _), d in zip(blocks, widths, strict=True):
            suffix = f".stage{stage}" if swin else ""
            shapes |= {f"{method}.U{suffix}": (4, d), f"{method}.V{suffix}": (d, 4)}
            if method == "fact_tk":
                shapes[f"fact_tk.C{suffix}"] = (4, 4, 4)
    if method == "rlrr":
        places = [n for n in norms if n.rpartition(".")[2] in ("norm1", "norm2")]
        places += [n for n in ("norm", "fc_norm") if n in norms]
        places += [] if swin else ["patch_embed.proj"]
        for n in places:
            channels = own[f"{n}.bias"]
            shapes |= {f"rlrr.{n}.scale": channels, f"rlrr.{n}.shift": channels}
        if swin:
            key = "rlrr.layers.1.downsample.reduction"
            shapes |= {f"{key}.l": (48, 1), f"{key}.c": (1, 96), f"{key}.f": (48,)}
    if method == "ssf":
        skipped = ("cls_token", "pos_embed", "reg_token", "relative_position", "ls1", "ls2")
        for name, shape in own.items():
            if name.endswith(".weight") and not any(part in name for part in skipped):
                for what in ("scale", "shift"):
                    shapes[f"ssf.{name.removesuffix('.weight')}.{what}"] = (shape[0],)
    return shapes


@pytest.mark.parametrize(("method", "family"), TRAINED)
def test_three_steps_change_what_is_intended_all_of_it_and_nothing_else(
    method: str, family: str
) -> None:
    backbone = make(family)
    model = adapt(backbone, method, CLASSES, **hyper(method))
    wanted = intended(method, backbone)
    assert {n: tuple(t.shape) for n, t in adapter_state(model).items()} == wanted
    frozen = {
        id(tensor): tensor.clone()
        for tensor in itertools.chain(model.backbone.parameters(), model.backbone.buffers())
        if not tensor.requires_grad
    }
    outside = copy.deepcopy(backbone.state_dict())
    before = {n: t.clone() for n, t in adapter_state(model).items()}
    # Steps of a size of their own, however small a gradient is. (The head starts at zero, so the
    # adapters move from the second step on, and the shared projection from the third.)
    optimiser = torch.optim.Adam(list(trainable(model).values()), lr=0.01, eps=1e-30)
    model.train()
    for _ in range(3):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images(backbone)), torch.tensor([0, 1, 2]))
        loss.backward()
        optimiser.step()
    after = adapter_state(model)
    assert [n for n in wanted if torch.equal(before[n], after[n])] == []
    for tensor in itertools.chain(model.backbone.parameters(), model.backbone.buffers()):
        if not tensor.requires_grad:
            assert torch.equal(tensor, frozen[id(tensor)])
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, outside[name]), f"the given backbone's {name} changed"


@pytest.mark.parametrize(("method", "family"), CASES)
def test_a_folded_model_is_plain_timm_with_the_same_logits(method: str, family: str) -> None:
    backbone = make(family)
    model = adapt(backbone, method, CLASSES, **hyper(method))
    if method in NOT_FOLDABLE:
        with pytest.raises(NotFoldable, match=NOT_FOLDABLE[method]):
            fold(model)
        return
    if family == "no qkv bias" and method in ("arc", "arc_att", "repadapter", "rlrr", "ssf"):
        with pytest.raises(NotFoldable, match=r"qkv\.bias"):  # which such a model doesn't have
            fold(model)
        return
    shake(model)
    model.eval()
    folded = fold(model)
    name, args = FAMILIES[family]
    plain = timm.create_model(name, num_classes=CLASSES, **args).eval()
    plain.load_state_dict(folded.state_dict())
    with torch.no_grad():
        expected = model(images(backbone))
        assert (folded(images(backbone)) - expected).abs().max() < 1e-5
        assert (plain(images(backbone)) - expected).abs().max() < 1e-5
        assert expected.abs().max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_goes_through_a_file_into_a_fresh_model(method: str) -> None:
    first, second = (adapt(make(), method, CLASSES, **hyper(method)).eval() for _ in range(2))
    shake(first)
    load_adapter(second, load(save({k: v.contiguous() for k, v in adapter_state(first).items()})))
    x = images(first.backbone)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def test_an_adapter_that_does_not_fit_changes_nothing() -> None:
    model = adapt(make(), "arc", CLASSES, rank=4)
    state = {k: v + 1 for k, v in adapter_state(adapt(make(), "arc", CLASSES, rank=8)).items()}
    state["surplus"] = state.pop("arc.attn.bias.0")
    before = {k: v.clone() for k, v in adapter_state(model).items()}
    with pytest.raises(ValueError, match="doesn't fit") as caught:
        load_adapter(model, state)
    for part in ("missing arc.attn.bias.0", "unknown surplus", "arc.attn.down is [192, 8]"):
        assert part in str(caught.value)
    assert all(torch.equal(before[k], v) for k, v in adapter_state(model).items())


def test_arc_starts_as_released() -> None:
    """Facts 1.1: attention coefficients and biases zero, FFN coefficients Xavier over (1, r)."""
    state = adapter_state(adapt(make(), "arc", CLASSES, rank=50))
    bounds = {
        "arc.attn.down": (6 / (192 + 50)) ** 0.5,
        "arc.mlp.down": (6 / (192 + 50)) ** 0.5,
        "arc.mlp.coeff.0": (6 / 51) ** 0.5,
        "arc.mlp.coeff.1": (6 / 51) ** 0.5,
    }
    for name, tensor in state.items():
        bound = bounds.get(name, 0)
        assert 0.8 * bound <= tensor.abs().max() <= bound, name


COUNTS = [
    # (model, method, hyperparameters, parameters without head), facts/methods.md section 2
    ("vit_base_patch16_224", "linear", {}, 0),
    ("vit_base_patch16_224", "arc", {"rank": 50}, 96_432),
    ("vit_base_patch16_224", "arc_att", {"rank": 50}, 48_216),
    ("vit_base_patch16_224", "full", {}, 85_798_656),
    ("vit_base_patch16_224", "ssf", {}, 205_824),
    ("vit_base_patch16_224", "bias", {}, 11 * 768 * 12 + 2 * 768),
    ("vit_base_patch16_224", "adapter", {"rank": 12}, 230_544),
    ("vit_base_patch16_224", "adapter_houlsby", {"rank": 8}, 2 * 12 * (2 * 768 * 8 + 8 + 768)),
    ("vit_base_patch16_224", "lora", {"rank": 7}, 4 * 768 * 7 * 12),
    ("vit_base_patch16_224", "vpt_shallow", {"tokens": 100}, 76_800),
    ("vit_base_patch16_224", "vpt_deep", {"tokens": 10}, 10 * 768 * 12),
    ("vit_base_patch16_224", "mlp", {"layers": 4}, 4 * (768 * 768 + 768)),
    ("vit_base_patch16_224", "layernorm", {}, 38_400),
    ("vit_base_patch16_224", "difffit", {}, 140_544),
    ("vit_base_patch16_224", "vera", {"rank": 256}, 24_576),
    ("vit_base_patch16_224", "vera", {"rank": 256, "target": "qkv"}, 30_720),
    ("vit_base_patch16_224", "pvera", {"rank": 256}, 30_720),
    ("vit_base_patch16_224", "pvera", {"rank": 256, "target": "qkv"}, 33_792),
    ("vit_base_patch16_224", "lora_xs", {"rank": 16}, 12_288),
    ("vit_base_patch16_224", "dora", {"rank": 8}, 313_344),
    ("vit_base_patch16_224", "dora", {"rank": 8, "target": "qkv"}, 322_560),
    ("vit_base_patch16_224", "adaptformer", {"rank": 64}, 1_189_632),
    ("vit_base_patch16_224", "adaptformer", {"rank": 8}, 156_768),
    ("vit_base_patch16_224", "adapter_plus", {"rank": 16}, 313_536),
    ("vit_base_patch16_224", "convpass", {"rank": 8}, 327_552),
    ("vit_base_patch16_224", "convpass", {"rank": 16}, 664_320),
    ("vit_base_patch16_224", "convpass", {"rank": 8, "placement": "attn"}, 163_776),
    ("vit_base_patch16_224", "fact_tt", {"rank": 16}, 61_440),
    ("vit_base_patch16_224", "fact_tk", {"rank": 32}, 86_528),
    ("vit_base_patch16_224", "rlrr", {}, 288_768),
    ("vit_large_patch16_224", "rlrr", {}, 765_952),
    ("swin_base_patch4_window7_224", "rlrr", {}, 358_144),
    ("swin_base_patch4_window7_224", "adaptformer", {"rank": 64}, 1_553_664),
    ("swin_base_patch4_window7_224", "adapter_plus", {"rank": 8}, 216_768),
    ("swin_base_patch4_window7_224", "convpass", {"rank": 8}, 437_504),
    ("vit_large_patch16_224", "arc", {"rank": 50}, 153_952),
    ("vit_huge_patch14_224", "arc", {"rank": 50}, 213_120),
    ("swin_base_patch4_window7_224", "arc", {"rank": 50}, 218_464),
    ("swin_base_patch4_window7_224", "vpt_shallow", {"tokens": 10}, 1_280),
    ("swin_base_patch4_window7_224", "vpt_deep", {"tokens": 10}, 120_320),
    ("swin_base_patch4_window7_224", "arc_att", {"rank": 50}, 109_232),
    ("swin_base_patch4_window7_224", "bias", {}, 200_760),
    ("swin_base_patch4_window7_224", "layernorm", {}, 57_600),
    ("swin_base_patch4_window7_224", "vera", {"rank": 256}, 36_352),
    ("swin_base_patch4_window7_224", "vera", {"rank": 256, "target": "qkv"}, 42_240),
    ("swin_base_patch4_window7_224", "partial", {}, 12_601_632 + 2 * 1024),
]


@pytest.mark.parametrize(("name", "method", "hyper", "count"), COUNTS)
def test_counts_are_those_of_the_facts(
    name: str, method: str, hyper: dict[str, Any], count: int
) -> None:
    with torch.device("meta"):
        backbone = timm.create_model(name)
        state = adapter_state(adapt(backbone, method, 100, **hyper))
    counts = {name: tensor.numel() for name, tensor in state.items()}
    width = backbone.num_features
    assert counts["head.weight"] + counts["head.bias"] == (width + 1) * 100
    assert sum(counts.values()) - counts["head.weight"] - counts["head.bias"] == count


STARTS_AS_BACKBONE = (
    "layernorm", "difffit", "vera", "pvera", "dora", "adaptformer", "convpass", "fact_tt", "fact_tk"
)  # fmt: skip


def test_lora_ssf_and_adapters_start_where_they_can_learn() -> None:
    """Identity but for SSF, which is near it; and every part alive."""
    backbone = make()
    x = images(backbone)
    with torch.no_grad():
        before = backbone.forward_head(backbone.forward_features(x), pre_logits=True)  # type: ignore[operator]
        for method in ("lora", "adapter", "adapter_houlsby", "repadapter", *STARTS_AS_BACKBONE):
            model = adapt(backbone, method, CLASSES, **hyper(method)).eval()
            assert (model.features(x) - before).abs().max() < 1e-5
        near = adapt(backbone, "ssf", CLASSES).eval().features(x)
    assert 1e-3 < (near - before).abs().max() < 2
    published = adapter_state(adapt(backbone, "adapter", CLASSES, as_published=True))
    assert not any(t.any() for name, t in published.items() if name.startswith("adapter."))


def test_prompts_of_the_shallow_kind_pass_through_and_of_the_deep_kind_are_replaced() -> None:
    backbone = make()
    for method, seen in (("vpt_shallow", [3]), ("vpt_deep", [3, 3])):
        model = adapt(backbone, method, CLASSES, tokens=3).eval()
        lengths: list[int] = []
        for module in model.backbone.blocks:  # type: ignore[union-attr]
            block = getattr(module, "block", module)
            block.register_forward_pre_hook(
                lambda _, x, lengths=lengths: lengths.append(x[0].shape[1])
            )
        model(images(backbone))
        assert lengths == [1 + 3 + 4] * 2
        assert [p.shape[0] for n, p in adapter_state(model).items() if "prompt" in n] == seen


@pytest.mark.parametrize("side", [32, 24])
def test_swin_blocks_with_prompts_are_timms_but_for_the_prompts(side: int) -> None:
    """With no prompts the rebuilt block is timm's, shifted and padded windows included."""
    name, args = FAMILIES["swin"]
    torch.manual_seed(0)
    backbone = timm.create_model(name, **{**args, "img_size": side}).eval()
    model = adapt(backbone, "vpt_deep", CLASSES, tokens=1).eval()
    for name, places in model.trained.places(model).items():
        for module, attribute in places if name.startswith("prompt") else []:
            setattr(module, attribute, nn.Parameter(getattr(module, attribute)[:, :0]))
    x = images(backbone)
    with torch.no_grad():
        expected = backbone.forward_head(backbone.forward_features(x), pre_logits=True)
        assert (model.features(x) - expected).abs().max() < 1e-5


def test_swin_prompts_of_one_image_are_not_seen_by_another() -> None:
    model = adapt(make("swin"), "vpt_shallow", CLASSES, tokens=3).eval()
    shake(model)
    x = images(model.backbone)
    with torch.no_grad():
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
    assert (together - alone).abs().max() < 1e-5


def test_swin_arc_has_the_published_placement_too() -> None:
    backbone = make("swin")
    model = adapt(backbone, "arc", CLASSES, rank=4, placement="residual")
    paper = adapt(backbone, "arc", CLASSES, rank=4)
    assert {n: t.shape for n, t in adapter_state(model).items()} == (
        {n: t.shape for n, t in adapter_state(paper).items()}
    )
    shake(model)
    load_adapter(paper, adapter_state(model))
    x = images(backbone)
    with torch.no_grad():
        assert (model.eval()(x) - paper.eval()(x)).abs().max() > 1e-3
    with pytest.raises(NotFoldable, match="residual stream"):
        fold(model)
    with pytest.raises(InputError, match="no placement"):
        adapt(make(), "arc", CLASSES, placement="residual")


def test_what_cannot_be_adapted_is_refused_with_reason() -> None:
    for name in ("resnet18", "convnext_atto", "swinv2_cr_tiny_224", "beit_base_patch16_224"):
        with torch.device("meta"), pytest.raises(InputError, match="choose a timm vit_"):
            adapt(timm.create_model(name), "arc", CLASSES)
    with pytest.raises(KeyError, match="unknown method 'ark'"):
        adapt(make(), "ark", CLASSES)
    with pytest.raises(TypeError, match="rnk"):
        adapt(make(), "arc", CLASSES, rnk=3)
