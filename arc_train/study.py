"""One study, in memory: a model, a method, images, and the packs that train on them."""

import copy
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from arc_train import backbones
from arc_train.adaptation import Adapted, adapt, load_adapter
from arc_train.device import MPS, best_device, device_of
from arc_train.digest import digest
from arc_train.errors import InputError
from arc_train.feed import Images
from arc_train.hyperparameters.recommended import space_of
from arc_train.hyperparameters.space import Config, Space, nearest_config
from arc_train.methods import METHODS, recommended
from arc_train.pack import Member, of_the_method
from arc_train.packing import most_trials
from arc_train.precision import compute_type, set_precision
from arc_train.recipe import Halving, Recipe
from arc_train.tasks.catalog import Augment, Resize
from arc_train.tasks.in_memory import split_of
from arc_train.tasks.transform import Transform
from arc_train.tasks.views import Split
from arc_train.trained import HEAD_MEMORY, count, state_of
from arc_train.training import PackRun

Statistics = tuple[Sequence[float], Sequence[float]]
# What the study needs of a model.
NEEDED = ("forward_features", "forward_head", "reset_classifier", "num_features")


class Study:
    """What the trials of a study have in common; the arguments are those of `search`.

    Raises:
        InputError: a model, a device or a value that can't be used.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str,
        epochs: int,
        batch_size: int,
        resize: Resize | None,
        augment: Augment,
        normalise: Statistics | None,
        device: str | torch.device | None,
    ) -> None:
        try:
            METHODS[method]
        except KeyError:
            raise InputError(
                f"unknown method {method!r}; known: {', '.join(METHODS)}, and a module of yours"
            ) from None
        if not all(hasattr(model, name) for name in NEEDED):
            raise InputError(
                f"expected a timm model, as timm.create_model gives it; found "
                f"{type(model).__name__}"
            )
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, found {value}")
        self.model, self.method = model, method
        self.recipe = Recipe(epochs, batch_size, warmup_epochs=min(10, epochs / 10))
        self.side = backbones.input_size(model)
        self.transform = _transform(self.side, resize, augment)
        self.classes = 2  # until the labels are known
        _, weights = count(state_of(self.adapted({}).trained))
        self.pack_size = most_trials(method, weights)
        device = _device(device)
        self.prepare = Images(*_statistics(model, normalise), device)
        frozen = copy.deepcopy(model).requires_grad_(False).eval().to(device)
        self._frozen = set_precision(frozen, compute_type(device))

    def read(
        self, given: Mapping[str, Any], num_classes: int | None, allow_overlap: bool
    ) -> dict[str, Split]:
        """Data sets by name as splits; their labels say how many classes there are.

        Raises:
            InputError: images or labels that can't be used, or that stand in two of them.
        """
        splits = {name: split_of(d, name, self.side, self.transform) for name, d in given.items()}
        self.classes = _classes(splits, num_classes)
        if not allow_overlap:
            for one, other in combinations(splits, 2):
                _check_overlap(one, splits[one], other, splits[other])
        return splits

    def space(self, overrides: Mapping[str, Any]) -> Space:
        """The method's space with these hyperparameters changed.

        Raises:
            InputError: one that the method lacks, or a value that is none.
        """
        try:
            return space_of(self.method, overrides)
        except ValueError as error:
            raise InputError(str(error)) from error

    def complete(self, config: Mapping[str, Any]) -> Config:
        """A configuration with what the method recommends where it is silent.

        Raises:
            InputError: as `space`, or several values for one hyperparameter.
        """
        space = self.space(config)
        for name in config:
            if space[name].size != 1:
                raise InputError(f"config needs one value of {name}, found {config[name]!r}")
        return nearest_config(space, recommended(self.method).first)

    def pack(
        self,
        members: Sequence[Member],
        orders: Sequence[int],
        train: Split,
        val: Split | None = None,
        halving: Halving | None = None,
    ) -> PackRun:
        """A pack of some trials, ready to train."""
        return PackRun(
            self._frozen,
            self.method,
            self.classes,
            members,
            orders,
            self.recipe,
            self.prepare,
            train,
            val,
            halving,
        )

    def adapted(self, config: Config, state: Mapping[str, Tensor] | None = None) -> Adapted:
        """The user's model, adapted; state: the trained tensors of a trial."""
        hyper = of_the_method(config)
        draws = torch.Generator().manual_seed(0)
        images = len(state[HEAD_MEMORY]) if state and HEAD_MEMORY in state else 0
        module = adapt(
            self.model, self.method, self.classes, generator=draws, images=images, **hyper
        ).eval()
        if state is not None:
            load_adapter(module, state)
        return module


def _device(asked: str | torch.device | None) -> torch.device:
    if asked is None:
        return best_device()
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise InputError(f"device {asked!r}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        device_of(1)
    elif device.type != "cpu":
        why = f": {MPS}" if device.type == "mps" else ""
        raise InputError(f"device must be cuda or cpu, found {device.type}{why}")
    return device


def _transform(side: int, resize: Resize | None, augment: Augment) -> Transform | None:
    """How images become those that the model takes; None: they must be so already."""
    for name, value, known in (("resize", resize, Resize), ("augment", augment, Augment)):
        if value is not None and value not in get_args(known):
            raise InputError(f"{name} must be {' or '.join(get_args(known))}, found {value!r}")
    if resize is None and augment != "none":
        raise InputError(f"augment={augment!r} needs resize='crop' or resize='squash'")
    return None if resize is None else Transform(side, resize, augment)


def _statistics(
    model: nn.Module, given: Statistics | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel for pixels in 0..1."""
    config: Any = getattr(model, "pretrained_cfg", None)
    if given is None and not config:
        raise InputError(
            "the model doesn't say how its inputs were normalised: give normalise=(mean, std)"
        )
    mean, std = given or (config["mean"], config["std"])
    return tuple(mean), tuple(std)


def _classes(splits: Mapping[str, Split], given: int | None) -> int:
    """How many classes there are."""
    found = {name: set(split.labels.tolist()) for name, split in splits.items()}
    train = found["train"]
    lowest = min(map(min, found.values()))
    if lowest < 0:
        raise InputError(f"labels must be 0 or more, found {lowest}")
    if len(train) < 2:
        raise InputError(f"train has one class only, {next(iter(train))}")
    classes = max(train) + 1 if given is None else given
    if given is None and len(train) < classes:
        lacking = next(label for label in range(classes) if label not in train)
        raise InputError(
            f"train has no image of class {lacking}, but some of class {classes - 1}: number the "
            f"classes from 0, or give num_classes={classes} if that is meant"
        )
    for name, labels in found.items():
        if max(labels) >= classes:
            why = "which train lacks" if given is None else f"with num_classes={classes}"
            raise InputError(f"{name} has an image of class {max(labels)}, {why}")
    return classes


def _check_overlap(name: str, split: Split, other_name: str, other: Split) -> None:
    """Refuse two splits that share images."""
    places = {key: i for i, key in enumerate(_digests(split))}
    shared = [(i, places[key]) for i, key in enumerate(_digests(other)) if key in places]
    if shared:
        i, j = shared[0]
        raise InputError(
            f"{len(shared)} of the {len(other)} images of {other_name} stand in {name} too, such "
            f"as {other_name}[{i}] and {name}[{j}]: leave them out, or give allow_overlap=True if "
            "that is meant"
        )


def _digests(split: Split) -> list[bytes]:
    """A digest of each image."""
    return [digest(np.ascontiguousarray(image).data.cast("B")) for image in split.images]
