"""The published tables: their arithmetic, and beside which of our results they may stand."""

from typing import Any

import pytest

from arc_train.backbones import ARC_PICO, Backbone
from arc_train.methods import METHODS
from arc_train.tasks.catalog import catalog
from arc_train.tasks.sources import STAND_INS, open_source
from orchestrator.leaderboard.published import (
    comparable,
    disagreements,
    lookup,
    means_of,
    pretraining,
    published,
    retuned,
    same_weights,
    tables,
)

ORIGINAL = "vit_base_patch16_224.orig_in21k"
AUGREG = "vit_base_patch16_224.augreg_in21k"


def named(model: str, **fields: Any) -> Backbone:
    return Backbone(model, model, **fields)


def test_exactly_the_known_means_disagree_with_their_cells() -> None:
    found = {(d.backbone, d.name, d.mean): (d.printed, round(d.recomputed, 2), d.by_rounding)
             for d in disagreements()}  # fmt: skip
    assert found == {
        ("ViT-H/14", "Bias", "structured"): (41.7, 41.76, True),
        ("Swin-B", "MLP-4", "structured"): (31.2, 35.02, False),
        ("Swin-B", "VPT-Shallow", "specialized"): (82.5, 82.42, True),
        ("Swin-B", "VPT-Shallow", "mean_19"): (62.9, 62.71, False),
        ("Swin-B", "VPT-Deep", "mean_19"): (67.7, 68.59, False),
        ("ViT-B/16", "RLRR", "fgvc"): (90.4, 90.5, True),
    }
    assert {d.backbone for d in disagreements(["Swin-B"])} == {"Swin-B"}
    assert not disagreements([])


def test_every_row_is_of_a_method_and_of_all_tasks() -> None:
    sizes = {"vtab": 19, "fgvc": 5}
    for row in tables():
        assert row.method in METHODS
        assert len(row.scores) == sizes[row.benchmark]
        assert row.protocol in ("test-picked", "copied baseline")
        assert all(0 < score < 100 for score in row.scores.values())
    assert len(tables()) == 55


def test_both_averages_of_the_papers_own_row() -> None:
    row = published(named(ORIGINAL), "arc", "vtab")
    assert row
    means = means_of(row.scores)
    assert means["mean_19"] == pytest.approx(73.37, abs=0.005)
    assert means["mean_groups"] == pytest.approx(75.78, abs=0.005)
    assert row.params == 0.13


@pytest.mark.parametrize(
    ("model", "task", "accuracy"),
    [
        (ORIGINAL, "vtab/kitti", 81.6),
        ("vit_base_patch16_224", "vtab/smallnorb_ele", 39.9),
        (ORIGINAL, "fgvc/cars", 85.7),
        ("vit_large_patch16_224.orig_in21k", "vtab/cifar100", 76.2),
        ("vit_huge_patch14_224.orig_in21k", "vtab/dsprites_loc", 44.2),
        ("swin_base_patch4_window7_224.ms_in22k", "vtab/dsprites_loc", 91.7),
        ("vit_large_patch16_224.orig_in21k", "fgvc/cars", None),
        ("vit_small_patch16_224.augreg_in21k", "vtab/kitti", None),
        ("vit_base_patch16_224.orig_in21k", "demo/digits", None),
    ],
)
def test_look_up_by_timm_model(model: str, task: str, accuracy: float | None) -> None:
    assert lookup(model, "arc", task) == accuracy


def test_rows_on_our_weights_are_preferred_and_others_are_said_to_be_others() -> None:
    star, plain = (published(named(model), "ssf", "vtab") for model in (AUGREG, ORIGINAL))
    assert star
    assert plain
    assert (star.name, plain.name) == ("SSF*", "SSF")
    assert same_weights(named(AUGREG), star)
    assert same_weights(named(AUGREG), plain) is False
    from_file = named("vit_base_patch16_224", weights="ViT-B_16.npz")
    assert pretraining(from_file) is None
    assert same_weights(from_file, plain) is None
    assert pretraining(named("vit_base_patch16_224")) == "augreg2_in21k_ft_in1k"


def test_a_backbone_changed_in_shape_or_without_pretraining_is_none_of_theirs() -> None:
    assert published(named(ORIGINAL, weights="random"), "arc", "vtab") is None
    assert published(named(ORIGINAL, args={"img_size": 32}), "arc", "vtab") is None
    assert published(ARC_PICO, "arc", "vtab") is None
    assert published(named(ORIGINAL), "repadapter", "vtab") is None


def test_the_independent_study() -> None:
    lora = retuned(named(ORIGINAL), "lora", "vtab")
    assert lora
    assert means_of(lora.scores)["mean_19"] == pytest.approx(72.91, abs=0.005)
    assert means_of(lora.scores)["mean_groups"] == pytest.approx(75.24, abs=0.005)
    full = retuned(named(ORIGINAL), "full", "vtab")
    assert full
    gap = means_of(full.best)["mean_19"] - means_of(full.scores)["mean_19"]
    assert gap == pytest.approx(7.43, abs=0.005)
    assert same_weights(named(ORIGINAL), lora) is None
    assert retuned(named("vit_large_patch16_224"), "lora", "vtab") is None
    assert retuned(named(ORIGINAL), "lora", "fgvc") is None


def test_only_published_splits_can_be_compared() -> None:
    assert comparable(["vtab-1k folder"])
    assert comparable(["fgvc lists", "vtab-1k folder"])
    stand_in = open_source(catalog()["vtab/dtd"], STAND_INS).variant
    embedded = open_source(catalog()["demo/digits"], None).variant
    other = "vtab-1k folder (sizes 80/20/100, not the published split)"
    for variant in (stand_in, embedded, other, "data set folder", "hub a/b@0123456789ab"):
        assert not comparable([variant])
        assert not comparable(["vtab-1k folder", variant])
    assert not comparable([])
