"""How far bfloat16 moves a real model from float32, by the type of the residual stream.

Logits of a pre-trained ViT on photographs, and the losses of ten ARC trials over 50 steps from the
same start: against float32, frozen weights in bfloat16 with a residual stream in bfloat16 or in
float32, and torch's autocast, which casts as it goes. Runs on a CPU.

    python benchmarks/precision.py ../shared/data/backbone/vit_tiny_patch16_224.safetensors \
        ../shared/data/caltech101
"""

import argparse
import contextlib
import copy
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from arc_train.pack import Member, Pack
from arc_train.precision import set_precision

STEPS, BATCH, SIDE = 50, 32, 96
TRIALS = [
    Member(str(seed), {"rank": rank, "lr": lr, "weight_decay": 1e-2, "dropout": dropout}, seed)
    for seed, (rank, lr, dropout) in enumerate(
        [(50, 5e-3, 0.0), (10, 1e-2, 0.1), (25, 5e-3, 0.1), (50, 2e-3, 0.0), (10, 1e-2, 0.0)] * 2
    )
]


def photographs(folder: Path, side: int, count: int) -> tuple[Tensor, Tensor]:
    """Images [N, 3, S, S] normalised to -1..1 and labels of a VTAB folder's training list."""
    lines = (folder / "train800.txt").read_text().splitlines()[:count]
    images, labels = [], []
    for path, label in (line.split() for line in lines):
        image = Image.open(folder / path).convert("RGB").resize((side, side))
        images.append(torch.from_numpy(np.array(image)).movedim(-1, 0) / 127.5 - 1)
        labels.append(int(label))
    return torch.stack(images), torch.tensor(labels)


def model(weights: Path, side: int) -> nn.Module:
    """The pre-trained ViT-Ti at a size, its position embedding resized by timm."""
    vit = timm.create_model("vit_tiny_patch16_224", img_size=side)
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    vit.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(state, vit))
    frozen: nn.Module = vit.requires_grad_(False).eval()
    return frozen


def losses(backbone: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """[STEPS, T] losses of the trials."""
    pack = Pack(backbone, "arc", 102, TRIALS)
    schedule = pack.schedule([min(1.0, (step + 1) / 10) for step in range(STEPS)])
    rows = []
    for step in range(STEPS):
        here = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
        rows.append(
            pack.train_step(images[here], labels[here], schedule.clocks[step], schedule.seeds[step])
        )
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("weights", type=Path, help="vit_tiny_patch16_224 as safetensors")
    parser.add_argument("folder", type=Path, help="a VTAB-1k folder")
    options = parser.parse_args()
    variants = {
        "bfloat16, stream bfloat16": torch.bfloat16,
        "bfloat16, stream float32": torch.float32,
        "autocast": None,
    }
    whole, small = model(options.weights, 224), model(options.weights, SIDE)
    pictures, _ = photographs(options.folder, 224, 32)
    images, labels = photographs(options.folder, SIDE, 320)
    with torch.no_grad():
        exact = whole(pictures)
    path = losses(small, images, labels)
    print(
        "against float32             logits: rms relative   same class   losses: mean |d|, last",
        flush=True,
    )
    for name, stream in variants.items():
        casting: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        big, little = copy.deepcopy(whole), copy.deepcopy(small)
        if stream is None:
            casting = torch.autocast("cpu", torch.bfloat16)
        else:
            (
                set_precision(big, torch.bfloat16, stream),
                set_precision(little, torch.bfloat16, stream),
            )
        with casting, torch.no_grad():
            logits = big(pictures).float()
        with casting:
            apart = (losses(little, images, labels) - path).abs()
        relative = ((logits - exact).square().mean() / exact.square().mean()).sqrt()
        same = (logits.argmax(1) == exact.argmax(1)).float().mean()
        print(
            f"{name:27} {relative:21.2e} {same:12.1%} {apart.mean():12.2e} {apart[-1].max():9.2e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
