"""Pre-trains the embedded backbone `arc_pico` on scenes drawn on the fly; nothing is downloaded.

Three heads share the features: kind of the main object (26 letters and 20 shapes), texture family
of the background and colour class of the object. How many, where and which way are never labels,
so the demo tasks stay unseen. Takes about 20 minutes on two cores, one of which draws:

    python benchmarks/pretrain_pico.py --out arc_train/weights/arc_pico.safetensors
"""

import argparse
import copy
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

SIDE, MASK, BATCH = 32, 96, 64
RAMP = 3000  # batches until the scenes are as varied as the held-out ones
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = np.array([
    (20, 20, 20), (240, 240, 240), (128, 128, 128), (215, 35, 35), (240, 140, 20), (235, 225, 40),
    (40, 165, 50), (40, 210, 215), (40, 60, 215), (130, 40, 175), (245, 130, 190), (115, 70, 30),
], dtype=np.float32)  # fmt: skip
TEXTURES = ("flat", "ramp", "radial", "stripes", "checks", "dots", "blobs", "noise")
Points = list[tuple[float, float]]


def _star(points: int, inner: float, turns: int = 1) -> Points:
    """A star of `points` tips on the unit circle, each edge pair folded in to radius `inner`."""
    steps = 2 * points * turns
    radii = [1.0 if i // turns % 2 == 0 else inner for i in range(steps)]
    angles = [2 * math.pi * i / steps for i in range(steps)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _polygon(corners: int, width: float = 1.0) -> Points:
    angles = [2 * math.pi * (i + 0.5) / corners for i in range(corners)]
    return [(width * math.sin(a), -math.cos(a)) for a in angles]


def _curve(kind: str) -> Points:
    turns = [2 * math.pi * i / 48 for i in range(48)]
    if kind == "heart":
        y = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) for t in turns]
        return [(math.sin(t) ** 3, -v / 14) for t, v in zip(turns, y, strict=True)]
    if kind == "drop":
        return [(0.7 * math.sin(t) * math.sin(t / 2) ** 2, -math.cos(t)) for t in turns]
    half = [(math.cos(t / 2), -math.sin(t / 2)) for t in turns]
    if kind == "half":
        return [(x, y + 0.4) for x, y in half]
    return [*half, *((0.85 * -x, 0.45 * y) for x, y in half)]  # crescent


SHAPES: list[Points] = [
    _polygon(48), _polygon(48, 0.5), _polygon(3), _polygon(4), _polygon(4, 0.4), _polygon(5),
    _polygon(6), _star(3, 0.25), _star(4, 0.35), _star(5, 0.42), _star(8, 0.6), _star(6, 0.7, 3),
    _curve("heart"), _curve("drop"), _curve("half"), _curve("crescent"), _star(2, 0.4),
    [(0, -1), (0.7, -0.1), (0.25, -0.1), (0.25, 1), (-0.25, 1), (-0.25, -0.1), (-0.7, -0.1)],
    [(-0.9, 0.6), (0.3, 0.6), (0.9, -0.6), (-0.3, -0.6)],
    [(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2)],
]  # fmt: skip


def masks() -> list[list[Image.Image]]:
    """Per kind a few styles (stroke widths, solid or outline) as greyscale masks of side MASK."""
    made: list[list[Image.Image]] = []
    font, middle, radius = ImageFont.load_default(72), MASK / 2, MASK * 0.4
    for letter in LETTERS:
        styles = []
        for stroke in (0, 2, 4, 6):
            image = Image.new("L", (MASK, MASK))
            place = (middle, middle)
            ImageDraw.Draw(image).text(
                place, letter, fill=255, font=font, anchor="mm", stroke_width=stroke
            )
            styles.append(image)
        made.append(styles)
    for shape in SHAPES:
        points = [(middle + radius * x, middle + radius * y) for x, y in shape]
        styles = []
        for width in (0, 0, 6, 10):
            image = Image.new("L", (MASK, MASK))
            pen = ImageDraw.Draw(image)
            if width:
                pen.line([*points, points[0], points[1]], fill=255, width=width, joint="curve")
            else:
                pen.polygon(points, fill=255)
            styles.append(image)
        made.append(styles)
    return made


class Scenes(IterableDataset[tuple[Tensor, Tensor]]):
    """An endless stream of (images [BATCH, 3, 32, 32] float in -1..1, labels [BATCH, 3]).

    `level` goes from 0 (large, centred, upright, calm background) to 1: from full variety alone,
    the kind head was still near chance (5%) after 130,000 images.
    """

    def __init__(self, seed: int, level: float = 0.0) -> None:
        self.seed = seed
        self.level = level
        self.grid = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))

    def texture(self, rng: np.random.Generator, family: str) -> np.ndarray:
        """A field [32, 32] in 0..1 that mixes the two background colours."""
        x, y = self.grid
        angle, phase = rng.uniform(0, 2 * math.pi, size=2)
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        pace = rng.uniform(6, 16)
        if family == "flat":
            return np.full((SIDE, SIDE), rng.uniform())
        if family == "ramp":
            return np.clip(0.5 + 0.5 * u, 0, 1)
        if family == "radial":
            a, b = rng.uniform(-0.6, 0.6, size=2)
            return np.clip(np.hypot(x - a, y - b) / 1.4, 0, 1)
        if family == "stripes":
            return (np.sin(pace * u + phase) > 0).astype(np.float64)
        if family == "checks":
            return (np.sin(pace * u + phase) * np.sin(pace * v + phase) > 0).astype(np.float64)
        if family == "dots":
            return (np.sin(pace * u + phase) * np.sin(pace * v + phase) > 0.6).astype(np.float64)
        if family == "noise":
            return rng.uniform(size=(SIDE, SIDE))
        cells = rng.integers(0, 256, size=(int(rng.integers(3, 8)),) * 2, dtype=np.uint8)
        soft = Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return np.asarray(soft) / 255.0

    def stamp(self, rng: np.random.Generator, mask: Image.Image, radius: float) -> np.ndarray:
        """The mask under a random affine warp, `radius` pixels large: coverage [32, 32] in 0..1."""
        angle = rng.normal(0, 0.5) if rng.uniform() < 0.8 else rng.uniform(-math.pi, math.pi)
        angle *= self.level
        cos, sin = math.cos(angle), math.sin(angle)
        shear, aspect = rng.uniform(-0.25, 0.25), math.exp(rng.uniform(-0.25, 0.25))
        inverse = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, shear], [0, 1]])
        inverse = inverse * np.array([[aspect], [1 / aspect]]) * (MASK * 0.4 / (2 * radius))
        reach = (SIDE / 2 - 0.75 * radius) * max(self.level, 0.1 if radius > 5 else 1.0)
        centre = (SIDE / 2 + rng.uniform(-reach, reach, size=2)) * 2
        a, b = MASK / 2 - inverse @ centre
        matrix = (*inverse[0], a, *inverse[1], b)
        big = mask.transform(
            (2 * SIDE, 2 * SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        return np.asarray(big.reduce(2), np.float32)[..., None] / 255.0

    def scene(
        self, rng: np.random.Generator, kinds: list[list[Image.Image]]
    ) -> tuple[np.ndarray, tuple[int, int, int]]:
        """One image [32, 32, 3] in 0..255 and its (kind, texture, colour)."""
        kind, texture, colour = (int(rng.integers(n)) for n in HEADS)
        paint = COLOURS[colour] + rng.normal(0, 10, size=3)
        ends = paint[None]  # drawn anew until both differ enough from the object
        while min(np.linalg.norm(ends - paint, axis=1)) < 80:
            ends = rng.uniform(0, 255, size=(2, 3))
            contrast = rng.uniform(0.1, 0.3 + 0.7 * self.level)
            ends[1] = ends[0] + (ends[1] - ends[0]) * contrast
        image = ends[0] + (ends[1] - ends[0]) * self.texture(rng, TEXTURES[texture])[..., None]
        # Small clutter makes "the main object" something to find, not just any edge.
        for _ in range(int(rng.uniform(0, 4) * self.level)):
            other = kinds[int(rng.integers(len(kinds)))][0]
            cover = self.stamp(rng, other, rng.uniform(1.5, 3.0))
            image = image + cover * (rng.uniform(0, 255, size=3) - image)
        style = kinds[kind][int(rng.integers(len(kinds[kind])))]
        image = image + self.stamp(rng, style, rng.uniform(12 - 5 * self.level, 15)) * (
            paint - image
        )
        image = image + rng.normal(0, rng.uniform(0, 8), size=image.shape)
        return np.clip(image, 0, 255), (kind, texture, colour)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        workers = info.num_workers if info else 1
        kinds = masks()
        while True:
            drawn, labels = zip(*(self.scene(rng, kinds) for _ in range(BATCH)), strict=True)
            pixels = torch.from_numpy(np.stack(drawn).astype(np.float32)).permute(0, 3, 1, 2)
            self.level = min(1.0, self.level + workers / RAMP)
            yield pixels.contiguous() / 127.5 - 1.0, torch.tensor(labels)


WEIGHTS = (1.0, 0.3, 0.3)  # of the losses: shape is by far the hardest to learn
HEADS = (len(LETTERS) + len(SHAPES), len(TEXTURES), len(COLOURS))


class Pretrainer(nn.Module):
    """The backbone with one linear head per question about the scene."""

    def __init__(self) -> None:
        super().__init__()
        self.body = VisionTransformer(
            img_size=SIDE, patch_size=8, embed_dim=128, depth=6, num_heads=4, num_classes=0
        )
        self.heads = nn.ModuleList(nn.Linear(128, n) for n in HEADS)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, 32, 32] to one [B, classes] per head."""
        features = self.body(images)
        return [head(features) for head in self.heads]


def save(body: nn.Module, out: Path) -> None:
    """Writes float16 weights under timm's names; renamed into place, so never half a file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    tensors = {name: t.detach().half().contiguous() for name, t in body.state_dict().items()}
    save_file(tensors, partial, metadata={"format": "pt"})
    os.replace(partial, out)


@torch.no_grad()
def accuracies(model: nn.Module, held_out: list[tuple[Tensor, Tensor]]) -> str:
    """Share of held-out scenes that each head gets right, as one line."""
    model.eval()
    right = sum(
        torch.stack([(o.argmax(1) == y[:, i]).sum() for i, o in enumerate(model(x))])
        for x, y in held_out
    )
    shares = [float(r) / (len(held_out) * BATCH) for r in right]  # type: ignore[union-attr]
    return "kind {:.3f}, texture {:.3f}, colour {:.3f}".format(*shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=7500)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    unseen = iter(Scenes(args.seed + 1_000_000, level=1.0))
    held_out = [next(unseen) for _ in range(24)]
    model = Pretrainer()
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    batches = DataLoader(Scenes(args.seed), None, num_workers=1, prefetch_factor=8)

    begin = time.monotonic()
    for step, (images, labels) in zip(range(1, args.steps + 1), batches, strict=False):
        rate = min(1.0, step / 200, 0.5 * (1 + math.cos(math.pi * step / args.steps)) + 1e-3)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        model.train()
        outputs = model(images)
        losses = [w * loss_of(outputs[i], labels[:, i]) for i, w in enumerate(WEIGHTS)]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        # A short memory at first, or the average would long hold the random start.
        keep = min(0.998, step / (step + 10))
        with torch.no_grad():
            for mean, now in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        if step % 500 == 0 or step == args.steps:
            speed = step * BATCH / (time.monotonic() - begin)
            shares = accuracies(average, held_out)
            print(f"step {step}: loss {loss:.3f}, {shares}, {speed:.0f} images/s", flush=True)
    save(average.body, args.out)


if __name__ == "__main__":
    main()
