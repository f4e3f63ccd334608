"""Adapt a frozen ViT to the demo digits, save the adapter, and fold it into a plain timm model.

python examples/adapt_a_model.py out
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from arc_train import adapt, adapter_state, fold, load_adapter
from arc_train.backbones import ARC_PICO, build
from arc_train.tasks.drawn import draw

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the adapter and the folded model")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    generator = torch.Generator().manual_seed(0)
    backbone = build(ARC_PICO)  # any timm ViT or Swin does
    model = adapt(backbone, "arc", CLASSES, generator=generator, rank=8)
    train(model, *digits("train800"), options.steps, generator)
    images, labels = digits("val200")
    logits = predict(model, images)
    print(f"validation accuracy {accuracy(logits, labels):.1f} %")

    save_file(adapter_state(model), options.out / "adapter.safetensors")
    again = adapt(backbone, "arc", CLASSES, rank=8)
    load_adapter(again, load_file(options.out / "adapter.safetensors"))
    torch.testing.assert_close(predict(again, images), logits)

    plain = fold(model)
    torch.testing.assert_close(predict(plain, images), logits, rtol=1e-4, atol=1e-4)
    save_file(plain.state_dict(), options.out / "model.safetensors")
    print(f"the folded {type(plain).__name__} has the same logits")


def digits(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [N, 3, 32, 32] in -1..1, as the backbone was trained, and labels [N]."""
    images, labels = draw("demo/digits", split)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    return pixels * 2 - 1, torch.from_numpy(labels)


def train(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    generator: torch.Generator,
) -> None:
    """AdamW on the parameters that require grad: the adapter and the head."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    model.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (32,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()


@torch.no_grad()
def predict(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits [N, K] in eval mode."""
    logits: torch.Tensor = model.eval()(images)
    return logits


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Percent of images whose largest logit is the label's."""
    return 100 * (logits.argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    main()
