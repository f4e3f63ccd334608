"""Small image tasks that need no download: scikit-learn's digits and three drawn ones.

The drawn tasks follow VTAB's structured group: the label is about the scene (how many, where,
which way), so frozen features say little about it and adaptation has something to gain.
"""

import hashlib
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

DEMO: dict[str, int] = {
    "demo/digits": 10,
    "demo/count": 8,
    "demo/location": 8,
    "demo/orientation": 8,
}
SPLIT_SIZES: dict[str, int] = {"train800": 800, "val200": 200, "test": 1000}
DIGITS_TEST = 797  # what the 1,797 digits leave for the test split

SIDE = 32
SCALE = 3  # supersampling: PIL's shapes have no antialiasing of their own
BIG = SIDE * SCALE

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]


def split_size(task: str, split: str) -> int:
    """Number of images of a split of a task."""
    _check(task, split)
    if task == "demo/digits" and split == "test":
        return DIGITS_TEST
    return SPLIT_SIZES[split]


def draw(task: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32, 3] uint8 and labels [N] int64 of a split, the same at every call."""
    count = split_size(task, split)
    if task == "demo/digits":
        return _digits(split)
    rng = _generator(task, split)
    # Whole rounds of all classes, shuffled: balanced to within one image per class.
    labels = rng.permutation(np.arange(count, dtype=np.int64) % DEMO[task])
    scene = _SCENES[task]
    images = np.stack([np.asarray(_shrink(scene(rng, int(label)))) for label in labels])
    return images, labels


def _check(task: str, split: str) -> None:
    if task not in DEMO:
        raise ValueError(f"unknown drawn task {task!r}; allowed: {', '.join(DEMO)}")
    if split not in SPLIT_SIZES:
        raise ValueError(f"unknown split {split!r}; allowed: {', '.join(SPLIT_SIZES)}")


def _generator(*names: str) -> np.random.Generator:
    """A generator seeded by names; hashlib because hash() differs between processes."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _shrink(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """One permutation cut in three, so that no digit is in two splits."""
    data = load_digits()
    order = _generator("demo/digits").permutation(len(data.target))
    first = {"train800": 0, "val200": 800, "test": 1000}[split]
    chosen = order[first : first + split_size("demo/digits", split)]
    grey = np.round(data.images[chosen] * (255.0 / 16.0)).astype(np.uint8)
    images = np.stack(
        [
            np.asarray(Image.fromarray(g).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            for g in grey
        ]
    )
    return np.repeat(images[..., None], 3, axis=3), data.target[chosen].astype(np.int64)


def _background(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """A soft two-colour texture [BIG, BIG, 3] and its mean colour [3]."""
    first = rng.uniform(20, 235, size=3)
    second = np.clip(first + rng.uniform(-45, 45, size=3), 0, 255)
    cells = int(rng.integers(2, 9))
    blobs = Image.fromarray(rng.integers(0, 256, size=(cells, cells), dtype=np.uint8))
    mix = np.asarray(blobs.resize((BIG, BIG), Image.Resampling.BICUBIC), np.float32)[..., None]
    pixels = first + (second - first) * (mix / 255.0)
    pixels = pixels + rng.normal(0, rng.uniform(0, 12), size=(BIG, BIG, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), (first + second) / 2


def _colour(rng: np.random.Generator, avoid: np.ndarray, distance: float = 110.0) -> Colour:
    """A random colour at least `distance` away in RGB from the colour to avoid [3]."""
    while True:
        colour = rng.integers(0, 256, size=3)
        if float(np.linalg.norm(colour - avoid)) >= distance:
            return int(colour[0]), int(colour[1]), int(colour[2])


def _place(unit: Points, x: float, y: float, size: float, angle: float) -> Points:
    """Unit-radius points turned by angle (radians), scaled by size and moved to (x, y)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + size * (u * cos - v * sin), y + size * (u * sin + v * cos)) for u, v in unit]


def _ring(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon, or a star where every other corner lies at radius `inner`."""
    steps = corners if inner == 1.0 else 2 * corners
    radii = [1.0 if i % 2 == 0 else inner for i in range(steps)]
    turn = 2 * math.pi / steps
    return [(r * math.cos(i * turn), r * math.sin(i * turn)) for i, r in enumerate(radii)]


def _heart() -> Points:
    turns = [2 * math.pi * i / 32 for i in range(32)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in turns
    ]


_ROUND: Points = [(math.cos(math.pi * i / 12), math.sin(math.pi * i / 12)) for i in range(24)]
_BODIES: tuple[Points, ...] = (_ROUND, _ring(3), _ring(4), _ring(6))
_TARGETS: tuple[Points, ...] = (_heart(), _ring(5, 0.45))
# Long shapes whose head (positive x) differs from their tail: all 360 degrees can be told apart.
_POINTERS: tuple[Points, ...] = (
    [(1, 0), (-0.9, 0.55), (-0.9, -0.55)],
    [(1, 0), (0.1, 0.7), (0.1, 0.25), (-1, 0.25), (-1, -0.25), (0.1, -0.25), (0.1, -0.7)],
    [(1, 0), (-1, 0.75), (-0.45, 0), (-1, -0.75)],
)


def _count_scene(rng: np.random.Generator, label: int) -> Image.Image:
    """label + 1 objects of mixed shape, size and colour that hardly overlap."""
    image, mean = _background(rng)
    pen = ImageDraw.Draw(image)
    placed: list[tuple[float, float, float]] = []
    while len(placed) < label + 1:
        # Attempts are bounded by starting afresh: a bad first layout could leave no room.
        placed = []
        for _ in range(200):
            size = rng.uniform(3.0, 4.8) * SCALE
            x, y = rng.uniform(size, BIG - size, size=2)
            if all(math.hypot(x - a, y - b) > size + s + SCALE for a, b, s in placed):
                placed.append((x, y, size))
            if len(placed) == label + 1:
                break
    for x, y, size in placed:
        unit = _BODIES[int(rng.integers(len(_BODIES)))]
        pen.polygon(_place(unit, x, y, size, rng.uniform(0, 2 * math.pi)), _colour(rng, mean))
    return image


def _location_scene(rng: np.random.Generator, label: int) -> Image.Image:
    """A heart or star centred in vertical strip `label` of 8, with small round distractors."""
    image, mean = _background(rng)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, BIG, size=2)
        dot = _place(_BODIES[int(rng.integers(3))], x, y, rng.uniform(1, 2) * SCALE, 0.0)
        pen.polygon(dot, _colour(rng, mean, 60.0))
    margin = 3.5 * SCALE  # keeps most of the shape inside at both ends
    strip = (BIG - 2 * margin) / DEMO["demo/location"]
    x = margin + strip * (label + rng.uniform(0.1, 0.9))
    y = rng.uniform(margin, BIG - margin)
    unit = _TARGETS[int(rng.integers(len(_TARGETS)))]
    size = rng.uniform(4.0, 7.0) * SCALE
    pen.polygon(_place(unit, x, y, size, rng.uniform(0, 2 * math.pi)), _colour(rng, mean))
    return image


def _orientation_scene(rng: np.random.Generator, label: int) -> Image.Image:
    """A pointer of some kind turned to bin `label` of 8 over 360 degrees."""
    image, mean = _background(rng)
    pen = ImageDraw.Draw(image)
    size = rng.uniform(6.5, 11.0) * SCALE
    x, y = rng.uniform(0.8 * size, BIG - 0.8 * size, size=2)
    # A fifth of each bin is left out at either side, where the label would be a guess.
    angle = 2 * math.pi / DEMO["demo/orientation"] * (label + rng.uniform(0.2, 0.8))
    width = rng.uniform(0.7, 1.1)
    unit = [(u, v * width) for u, v in _POINTERS[int(rng.integers(len(_POINTERS)))]]
    pen.polygon(_place(unit, x, y, size, angle), _colour(rng, mean))
    return image


_SCENES: dict[str, Callable[[np.random.Generator, int], Image.Image]] = {
    "demo/count": _count_scene,
    "demo/location": _location_scene,
    "demo/orientation": _orientation_scene,
}
