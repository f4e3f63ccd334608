"""How a task's images become the square ones that models see."""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from arc_train.tasks.catalog import Augment, Resize, Task

# Where a crop is cut out, images are this much longer than it.
CROP_MARGIN = 256 / 224


@dataclass(frozen=True)
class Transform:
    """What happens to images of a task; to the pixel as torchvision would do it.

    size: side of the square that models see. resize: to a square whatever the aspect (squash), or
    the short side, keeping the aspect, to cut out the middle (crop). augment: while training, any
    part may be cut out instead of the middle, and mirrored (crop+flip).
    """

    size: int
    resize: Resize
    augment: Augment

    @property
    def length(self) -> int:
        """The side, or the short side, that images are resized to."""
        whole = self.resize == "squash" and self.augment == "none"
        return self.size if whole else round(self.size * CROP_MARGIN)

    @property
    def interpolation(self) -> str:
        """As published: VTAB-1k is squashed, bicubic, FGVC is cropped, bilinear."""
        return "bicubic" if self.resize == "squash" else "bilinear"

    def __str__(self) -> str:
        side = f"{self.length}x{self.length}"
        kind = f"resize {side}" if self.resize == "squash" else f"short side {self.length}"
        text = f"{kind} {self.interpolation}"
        if self.augment == "crop+flip":
            return f"{text}, crop {self.size}: random and mirrored to train, else centre"
        return text if self.length == self.size else f"{text}, crop {self.size}: centre"

    def apply(self, image: Image.Image) -> Image.Image:
        """All that is the same in every epoch; what is left is cut out by the views."""
        size = (self.length, self.length)
        if self.resize == "crop":
            width, height = (self.length * side // min(image.size) for side in image.size)
            size = (width, height)
        if image.size != size:
            image = image.resize(size, Image.Resampling[self.interpolation.upper()])
        if self.augment == "crop+flip":
            return image
        left, top = (round((side - self.size) / 2) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))

    def timm(self) -> dict[str, Any]:
        """The same at test, in the words of timm's pretrained_cfg."""
        return {
            "input_size": [3, self.size, self.size],
            "interpolation": self.interpolation,
            "crop_pct": self.size / self.length,
            "crop_mode": "squash" if self.resize == "squash" else "center",
        }


def transform(task: Task, size: int) -> Transform:
    """A task's transform for models that see `size` pixels."""
    return Transform(size, task.resize, task.augment)
