"""Images and labels as people have them in a notebook, read once into a split.

A data set of torch or of Hugging Face, or a pair (images, labels) of tensors or arrays. Pixels are
read by the one rule of images.py; none is resized unless that is asked for.
"""

from collections.abc import Iterator, Mapping
from operator import index
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from arc_train.errors import InputError
from arc_train.tasks.images import from_array, to_rgb, turned_upright
from arc_train.tasks.transform import Transform
from arc_train.tasks.views import Split

# Names of the columns of items that are mappings, in order of preference.
IMAGES = ("image", "img", "pixel_values")
LABELS = ("label", "labels", "fine_label", "class")
# So many items are read twice: a transform that draws would show other pixels each time.
READ_TWICE = 4


def split_of(data: Any, name: str, side: int, how: Transform | None) -> Split:
    """A data set's images and labels.

    data: (images, labels), or a data set with a length whose items are (image, label), or mappings
        with an image and a label. Images are Pillow's, or tensors or arrays of uint8 or of floats
        in 0..1, [3, H, W] or [H, W, 3]; labels are whole numbers.
    name: what to call it in messages. side: of the images that the model takes, in pixels.
    how: what makes images of any size such ones; without it all must be so already.

    Raises:
        InputError: another kind of data, or an item that can't be read; names the item.
    """
    items = list(_items(data, name))
    if not items:
        raise InputError(f"{name} has no images")
    for number, (image, label) in zip(range(READ_TWICE), _items(data, name), strict=False):
        if not _same(items[number], (image, label)):
            raise InputError(
                f"{name}[{number}] is another one each time it is read: leave out transforms that "
                "draw; augment='crop+flip' crops and mirrors anew in every epoch"
            )
    images = [_pixels(image, f"{name}[{i}]", side, how) for i, (image, _) in enumerate(items)]
    labels = [_label(label, f"{name}[{i}]") for i, (_, label) in enumerate(items)]
    cropped = how is not None and how.augment != "none"
    return Split(
        images if cropped else torch.from_numpy(np.stack(images)), torch.tensor(labels), side
    )


def join(one: Split, other: Split) -> Split:
    """Two splits of the same kind as one."""
    labels = torch.cat([one.labels, other.labels])
    if isinstance(one.images, Tensor) and isinstance(other.images, Tensor):
        return Split(torch.cat([one.images, other.images]), labels, one.side)
    return Split([*one.images, *other.images], labels, one.side)


def _items(data: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """The pairs (image, label)."""
    if isinstance(data, torch.utils.data.DataLoader):
        raise InputError(f"{name} is a DataLoader: give its data set, .dataset")
    if isinstance(data, tuple) and len(data) == 2:
        images, labels = data
        if len(images) != len(labels):
            raise InputError(f"{name} has {len(images)} images and {len(labels)} labels")
        yield from zip(images, labels, strict=True)
        return
    if isinstance(data, str | Mapping) or not hasattr(data, "__len__"):
        raise InputError(
            f"{name} must be a data set with a length, whose items are (image, label), or a pair "
            f"(images, labels); found {type(data).__name__}"
        )
    for number in range(len(data)):
        yield _pair(data[number], f"{name}[{number}]")


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        return _entry(item, IMAGES, where), _entry(item, LABELS, where)
    if not isinstance(item, tuple | list) or len(item) != 2:
        found = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
        raise InputError(f"{where}: expected (image, label), found {found}")
    return item[0], item[1]


def _entry(item: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if name in item:
            return item[name]
    raise InputError(f"{where}: expected a column {' or '.join(names)}, found {', '.join(item)}")


def _same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether two readings of an item gave the same."""
    return all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True)
    )


def _pixels(stored: Any, where: str, side: int, how: Transform | None) -> NDArray[np.uint8]:
    """An image as uint8 [H, W, 3]."""
    if isinstance(stored, Image.Image):
        image = to_rgb(turned_upright(stored), where)
    else:
        try:
            image = from_array(_array(stored), where).convert("RGB")
        except InputError as error:
            raise InputError(
                f"{error}; leave out transforms that normalise: that is done here, with the "
                "model's mean and std"
            ) from error
    if how is None and image.size != (side, side):
        raise InputError(
            f"{where}: the image is {image.width}x{image.height} and the model takes {side}x{side}:"
            " give resize='squash', or resize='crop', which keeps the aspect"
        )
    return np.array(image if how is None else how.apply(image))


def _array(stored: Any) -> Any:
    return stored.cpu().numpy() if isinstance(stored, Tensor) else stored


def _label(stored: Any, where: str) -> int:
    try:
        return index(stored)
    except (TypeError, ValueError) as error:
        kind = getattr(stored, "dtype", type(stored).__name__)
        shown = shorten(str(stored), 40)
        raise InputError(
            f"{where}: a label must be a whole number, found {shown} of type {kind}"
        ) from error
