"""Stored images decoded, with errors that say where an image is listed."""

import io
from pathlib import Path

from PIL import Image

from arc_train.errors import InputError


def read_image(stored: Path | bytes, where: str) -> tuple[Image.Image, bytes]:
    """An image as it is stored, loaded, and its bytes.

    Raises:
        InputError: it can't be read; begins with `where`.
    """
    name = f"image {stored}" if isinstance(stored, Path) else "the image"
    try:
        content = stored.read_bytes() if isinstance(stored, Path) else stored
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: can't read {name}: {error}") from error
    return image, content
