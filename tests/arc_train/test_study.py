"""A study in a notebook: a search and a fine-tuning, on whatever people hand over as data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from datasets import Dataset
from PIL import Image
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import arc_train
from arc_train import InputError
from arc_train.study_result import Progress
from arc_train.tasks.in_memory import split_of
from arc_train.tasks.transform import Transform

HALF = ((0.5,) * 3, (0.5,) * 3)
SIDE, CLASSES = 16, 3
QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 16, "normalise": HALF, "device": "cpu"}
Pair = tuple[Tensor, Tensor]


def made(count: int, seed: int) -> Pair:
    """Images uint8 [N, 16, 16, 3] that are brighter by class, and labels [N]."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    noise = torch.randint(0, 60, (count, SIDE, SIDE, 3), generator=draws)
    return (noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


TRAIN, VAL, TEST = made(48, 0), made(24, 1), made(30, 2)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(img_size=SIDE, patch_size=8, embed_dim=24, depth=2, num_heads=2)


def accuracy(module: nn.Module, data: Pair) -> float:
    with torch.no_grad():
        logits = module((data[0].permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    return 100 * float((logits.argmax(1) == data[1]).float().mean())


@pytest.fixture(scope="module")
def found(model: nn.Module) -> arc_train.Search:
    return arc_train.search(model, TRAIN, VAL, "arc", trials=6, space={"rank": [2, 4]}, **QUICK)


def test_the_winner_is_the_trial_that_validated_best_and_its_module_does_so_too(
    model: nn.Module, found: arc_train.Search
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert len(found.trials) == 6
    done = [trial for trial in found.trials if trial.status == "done"]
    assert done
    assert found.best is found.trials[0]
    assert found.best.val_accuracy == max(trial.val_accuracy or 0 for trial in done)
    assert accuracy(found.model, VAL) == pytest.approx(found.best.val_accuracy)
    assert [row.epoch for row in found.best.curve] == [1, 2, 3, 4]
    assert {trial.status for trial in found.trials} == {"done", "stopped"}
    assert "24 validation images" in repr(found)
    assert len(repr(found).splitlines()) == 7
    assert "arc.attn.down" in arc_train.adapter_state(found.model)
    plain = arc_train.fold(found.model)
    assert accuracy(plain, VAL) == accuracy(found.model, VAL)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    again = arc_train.search(model, TRAIN, VAL, "arc", trials=6, space={"rank": [2, 4]}, **QUICK)
    assert [(t.config, t.curve) for t in again.trials] == [
        (t.config, t.curve) for t in found.trials
    ]


def test_a_fine_tuning_trains_on_all_and_is_tested_once_under_each_seed(
    model: nn.Module, found: arc_train.Search
) -> None:
    seen: list[Progress] = []
    final = arc_train.finetune(
        model, TRAIN, VAL, TEST, config=found.config, seeds=(0, 1), progress=seen.append, **QUICK
    )
    assert (final.train_images, final.test_images) == (72, 30)
    for one in final.finals:
        assert one.model is not None
        assert accuracy(one.model, TEST) == pytest.approx(one.test_accuracy)
        assert len(one.curve) == 4
    states = [arc_train.adapter_state(one.model) for one in final.finals if one.model]
    assert not torch.equal(states[0]["head.weight"], states[1]["head.weight"])
    assert final.test_std is not None
    assert "30 test images, 2 seeds, trained on 72 images" in repr(final)
    assert [str(at) for at in seen][-1] == "2 of 2 trials ended"
    assert len(seen) == 4
    untested = arc_train.finetune(model, TRAIN, method="linear", **QUICK)
    assert untested.test_accuracy is None
    assert "not tested" in repr(untested)


def test_a_trial_that_diverges_costs_nobody_else_and_leaves_no_model(model: nn.Module) -> None:
    with np.errstate(all="ignore"):
        final = arc_train.finetune(model, TRAIN, config={"lr": 1e30}, **QUICK)
    assert final.finals[0].status == "diverged"
    with pytest.raises(InputError, match="the first seed diverged"):
        _ = final.model


@pytest.mark.parametrize(("calls", "done"), [(1, 0), (5, 1)])
def test_ctrl_c_keeps_what_is_done(model: nn.Module, calls: int, done: int) -> None:
    seen: list[Progress] = []

    def interrupt(at: Progress) -> None:
        seen.append(at)
        if len(seen) == calls:
            raise KeyboardInterrupt

    found = arc_train.search(
        model, TRAIN, VAL, "linear", trials=6, progress=interrupt, **{**QUICK, "epochs": 4}
    )
    assert found.interrupted
    assert "interrupted" in repr(found)
    statuses = [trial.status for trial in found.trials]
    assert statuses.count("done") == done
    assert statuses.count("interrupted") == 1
    if done:
        assert accuracy(found.model, VAL) == pytest.approx(found.best.val_accuracy)
    else:
        with pytest.raises(InputError, match="no trial was trained to its last epoch"):
            _ = found.best
        with pytest.raises(InputError, match="no trial was trained to its last epoch"):
            _ = found.model


def items(data: Pair) -> list[tuple[Image.Image, int]]:
    return [(Image.fromarray(i.numpy()), int(label)) for i, label in zip(*data, strict=True)]


HANDED_OVER: dict[str, Callable[[Pair], Any]] = {
    "arrays": lambda data: (data[0].numpy(), data[1].numpy()),
    "floats": lambda data: (data[0].permute(0, 3, 1, 2) / 255, data[1]),
    "list": items,
    "torch": lambda data: TensorDataset(data[0].permute(0, 3, 1, 2), data[1]),
    "subset": lambda data: Subset(TensorDataset(*made(60, 0)), range(48)),
    "hugging face": lambda data: Dataset.from_dict(
        {"img": [image for image, _ in items(data)], "fine_label": data[1].tolist()}
    ),
    "mappings": lambda data: [{"image": image, "label": label} for image, label in items(data)],
}


@pytest.mark.parametrize("kind", HANDED_OVER)
def test_the_same_images_are_the_same_in_whatever_form(kind: str) -> None:
    data = made(60, 0)[0][:48], made(60, 0)[1][:48]
    read = split_of(HANDED_OVER[kind](data), "train", SIDE, None)
    assert isinstance(read.images, Tensor)
    assert torch.equal(read.images, data[0])
    assert torch.equal(read.labels, data[1])


def test_images_of_other_sizes_are_resized_or_cropped_where_that_is_asked_for() -> None:
    draws = np.random.default_rng(0)
    photos = [
        (Image.fromarray(draws.integers(0, 255, (20 + i, 30, 3), np.uint8)), i) for i in (0, 1)
    ]
    squashed = split_of(photos, "train", SIDE, Transform(SIDE, "squash", "none"))
    assert isinstance(squashed.images, Tensor)
    assert squashed.images.shape == (2, SIDE, SIDE, 3)
    cropped = split_of(photos, "train", SIDE, Transform(SIDE, "crop", "crop+flip"))
    assert cropped.cropped
    assert cropped.batch(torch.arange(2)).shape == (2, SIDE, SIDE, 3)


class Drawn:
    """A data set whose transform draws."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(3, SIDE, SIDE), index % 2


IMAGES, LABELS = TRAIN


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"train": (IMAGES, LABELS.numpy().astype(np.float64))},
            r"train\[0\]: a label must be a w",
        ),
        ({"train": (IMAGES, torch.eye(48))}, r"train\[0\]: a label must be a whole number"),
        ({"train": (IMAGES, LABELS - 1)}, "labels must be 0 or more, found -1"),
        ({"train": (IMAGES, LABELS * 0)}, "train has one class only, 0"),
        ({"train": (IMAGES, LABELS * 2)}, r"no image of class 1, .* or give num_classes=5"),
        ({"train": (IMAGES, LABELS[:-1])}, "train has 48 images and 47 labels"),
        ({"train": (IMAGES[:, :8], LABELS)}, r"train\[0\]: the image is 16x8 and .* takes 16x16"),
        ({"train": (IMAGES / 127.5 - 1, LABELS)}, r"train\[0\]: .* leave out .* normalise"),
        ({"train": (IMAGES[..., :2], LABELS)}, r"train\[0\]: an array of shape"),
        ({"train": (IMAGES[:0], LABELS[:0])}, "train has no images"),
        ({"train": Drawn()}, r"train\[0\] is another one each time .* augment='crop\+flip'"),
        ({"train": DataLoader(TensorDataset(*TRAIN))}, r"train is a DataLoader: give .*\.dataset"),
        ({"train": "beans"}, "train must be a data set with a length, .* found str"),
        ({"train": iter(items(TRAIN))}, "train must be a data set .* found list_iterator"),
        ({"train": [(IMAGES[0], 0, 0)]}, r"train\[0\]: expected \(image, label\), found 3 parts"),
        ({"train": [{"picture": 0, "label": 1}]}, r"train\[0\]: expected a column image or"),
        ({"val": (VAL[0], VAL[1] + 1)}, "val has an image of class 3, which train lacks"),
        (
            {"val": (IMAGES[6:9], LABELS[6:9])},
            r"3 of the 3 images of val .*val\[0\] and train\[6\]",
        ),
        ({"model": nn.Linear(3, 3)}, "expected a timm model, .* found Linear"),
        ({"model": timm.create_model("resnet18")}, "ResNet has no blocks that this method"),
        ({"normalise": None}, r"give normalise=\(mean, std\)"),
        ({"method": "ark"}, "unknown method 'ark'; known: ridge, knn, linear"),
        ({"space": {"rnk": [4]}}, "arc has no hyperparameter 'rnk'; it has lr"),
        ({"space": {"rank": [0]}}, "rank must be at least 1"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"resize": "stretch"}, "resize must be squash or crop, found 'stretch'"),
        ({"augment": "crop+flip"}, "needs resize="),
        ({"device": "mps"}, "device must be cuda or cpu, found mps: Apple's"),
        ({"device": "gpu"}, "device 'gpu': "),
    ],
)
def test_bad_input_is_one_error_of_ours(
    model: nn.Module, change: dict[str, Any], says: str
) -> None:
    given = {"model": model, "train": TRAIN, "val": VAL, **QUICK, **change}
    with pytest.raises(InputError, match=says) as refused:
        arc_train.search(**given)
    assert "\n" not in str(refused.value)


def test_a_fine_tuning_refuses_several_values_and_seeds_that_stand_twice(model: nn.Module) -> None:
    with pytest.raises(InputError, match=r"config needs one value of rank, found \[2, 4\]"):
        arc_train.finetune(model, TRAIN, config={"rank": [2, 4]}, **QUICK)
    with pytest.raises(InputError, match=r"seeds must be .* found \[0, 0\]"):
        arc_train.finetune(model, TRAIN, seeds=(0, 0), **QUICK)
    with pytest.raises(InputError, match="images of test stand in val too"):
        arc_train.finetune(model, TRAIN, VAL, VAL, **QUICK)
    allowed = arc_train.finetune(model, TRAIN, test=TRAIN, allow_overlap=True, **QUICK)
    assert allowed.test_images == 48


def test_a_gpu_that_cannot_be_used_is_not_passed_over(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("arc_train.device._NVIDIA", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(InputError, match="torch can't use the GPU of this machine"):
        arc_train.search(model, TRAIN, VAL, **{**QUICK, "device": None})
