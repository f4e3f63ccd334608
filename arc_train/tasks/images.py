"""Stored images decoded, with errors that say where an image is listed, and made RGB by one rule.

Eight bits are taken as they are: grey and palettes are spread over the channels, alpha is dropped,
CMYK and its like are converted as Pillow does. Sixteen bits are divided by 257, floats in 0..1 are
multiplied by 255, and whatever else a pixel may be is refused: nothing is cut off silently.

Photographs that say in EXIF how they are to be turned are turned so, of a user's own tasks. Those
of the catalogue stay as they are stored, as in the published results.
"""

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.Image import Transpose

from arc_train.errors import InputError


class ImageError(InputError):
    """An image that can't be used; kind: what is wrong, in words that many images may share."""

    def __init__(self, where: str, kind: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.kind = kind


# What undoes each orientation of EXIF but 1, which is upright.
TURNS: dict[object, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
EIGHT_BITS = ("RGB", "1", "L", "LA", "La", "P", "PA", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")


def read_image(
    stored: Path | bytes, where: str, upright: bool = False
) -> tuple[Image.Image, bytes]:
    """An image as it is stored, loaded, and its bytes.

    upright: turn it as its EXIF says.

    Raises:
        InputError: it can't be read; begins with `where`.
    """
    name = f"image {stored}" if isinstance(stored, Path) else "the image"
    try:
        content = stored.read_bytes() if isinstance(stored, Path) else stored
        image: Image.Image = Image.open(io.BytesIO(content))
        image.load()
        if upright:
            image = turned_upright(image)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ImageError(where, "can't be read", f"can't read {name}: {error}") from error
    return image, content


def is_turned(content: bytes) -> bool:
    """Whether an image that can be read says in EXIF that it is to be turned."""
    with Image.open(io.BytesIO(content)) as image:
        return _orientation(image) in TURNS


def _orientation(image: Image.Image) -> object:
    return image.getexif().get(ExifTags.Base.Orientation)


def turned_upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF says. (Pillow also writes EXIF anew: not where it is torn.)"""
    turn = TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format
    return turned


def to_rgb(image: Image.Image, where: str) -> Image.Image:
    """An image in eight bits and three channels.

    Raises:
        InputError: its pixels are of another kind, or out of range; begins with `where`.
    """
    if image.mode in EIGHT_BITS:
        return image.convert("RGB")
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        pixels = f"pixels of Pillow's mode {image.mode}"
        message = f"the image has {pixels}; store it as 8-bit RGB or grey"
        raise ImageError(where, f"have {pixels}", message)
    values = np.asarray(image)
    if image.mode != "F" and values.min() >= 0 and values.max() < 2**16:
        return _grey(values / 257)
    return Image.fromarray(eight_bits(values, where)).convert("RGB")


def eight_bits(values: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Pixels [H, W] or [H, W, C] of any type -> uint8: floats of 0..1, whole numbers of 0..255.

    Raises:
        InputError: another type, or a value out of range; begins with `where`.
    """
    low, high = (float(bound) for bound in (values.min(), values.max()))
    kind = values.dtype.kind
    if kind == "b" or (kind in "iu" and low >= 0 and high <= 255):
        return values.astype(np.uint8)
    if kind == "f" and low >= 0 and high <= 1:
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    raise ImageError(
        where,
        f"have pixels of type {values.dtype} out of range",
        f"pixels of type {values.dtype} from {low:.6g} to {high:.6g}; "
        "expected whole numbers from 0 to 255, or floats from 0 to 1",
    )


def from_array(pixels: object, where: str) -> Image.Image:
    """An image from nested numbers [H, W], [H, W, C] or [C, H, W].

    Raises:
        InputError: another shape, type or range; begins with `where`.
    """
    try:
        array = np.asarray(pixels).squeeze()
    except (ValueError, TypeError) as error:
        raise ImageError(where, "can't be read", f"can't read the image: {error}") from error
    if array.ndim == 3 and array.shape[0] in (3, 4) and array.shape[2] not in (3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ImageError(
            where,
            "are arrays of another shape than images have",
            f"an array of shape {list(array.shape)} is no image; expected [H, W], "
            "[H, W, C] or [C, H, W] with 1, 3 or 4 channels",
        )
    return Image.fromarray(eight_bits(array, where))


def _grey(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
