"""VPT (Jia et al., ECCV 2022): learned tokens beside the patches, read by the frozen blocks.

Shallow: `tokens` prompts enter before block 0 and travel through all blocks. Deep: before each
later block their places are taken by prompts of the block's own. Drawn uniformly in +-v,
v = sqrt(6 / (3 patch^2 + D)), as released. Prompts are taken out before the final norm, so models
that pool by averaging see patches only. What a Swin does with them is in swin_prompts.py.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.errors import NotFoldable
from arc_train.methods.swin_prompts import PromptedStage
from arc_train.structure import is_swin, sites


class Prompted(nn.Module):
    """A frozen module with prompts [p, D], which lie after the first `prefix` tokens."""

    def __init__(
        self, module: nn.Module, prompts: nn.ParameterList, index: int, prefix: int
    ) -> None:
        super().__init__()
        self.module = module
        # The list, not the tensor: a pack swaps the tensors of one trial for those of another.
        self.prompts, self.index = prompts, index
        self.prefix = prefix

    @property
    def prompt(self) -> Tensor:
        """The module's own prompts [p, D]."""
        return self.prompts[self.index]

    def place(self, x: Tensor, old: int, new: bool) -> Tensor:
        """x [B, N, D] without the `old` tokens after the prefix; own prompts there if `new`."""
        own = [self.prompt.expand(x.shape[0], -1, -1)] if new else []
        return torch.cat([x[:, : self.prefix], *own, x[:, self.prefix + old :]], dim=1)


class Insert(Prompted):
    """Runs the module, then puts the prompts in."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N, D] -> [B, N + p, D]."""
        return self.place(self.module(x), old=0, new=True)


class Replace(Prompted):
    """Puts a block's own prompts in the places of those before, then runs the block."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N + p, D] -> [B, N + p, D]."""
        out: Tensor = self.module(self.place(x, old=self.prompt.shape[0], new=True))
        return out


class Remove(Prompted):
    """Takes the prompts out, then runs the module."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N + p, D] -> [B, N, D]."""
        out: Tensor = self.module(self.place(x, old=self.prompt.shape[0], new=False))
        return out


def attach_shallow(
    backbone: Any, generator: torch.Generator | None, tokens: int = 50
) -> dict[str, nn.Module]:
    """Prompts before the first block."""
    return _attach(backbone, generator, int(tokens), depth=1)


def attach_deep(
    backbone: Any, generator: torch.Generator | None, tokens: int = 10
) -> dict[str, nn.Module]:
    """Prompts before every block."""
    return _attach(backbone, generator, int(tokens), depth=len(sites(backbone)))


def fold(model: Any) -> None:
    """Prompts don't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable(f"{model.method} adds tokens to the input of the blocks, not to a weight")


def _attach(
    backbone: Any, generator: torch.Generator | None, tokens: int, depth: int
) -> dict[str, nn.Module]:
    blocks = sites(backbone)
    patch = backbone.patch_embed.patch_size
    bound = math.sqrt(6 / (3 * patch[0] * patch[1] + blocks[0].width))
    prompts = nn.ParameterList(
        (torch.rand(tokens, site.width, generator=generator) * 2 - 1) * bound
        for site in blocks[:depth]
    )
    if is_swin(backbone):
        first, stages = 0, len(backbone.layers)
        for i, stage in enumerate(list(backbone.layers)):
            backbone.layers[i] = PromptedStage(stage, prompts, first, last=i == stages - 1)
            first += len(stage.blocks)
        return {"prompt": prompts}
    prefix = backbone.num_prefix_tokens
    backbone.norm_pre = Insert(backbone.norm_pre, prompts, 0, prefix)
    for i in range(1, depth):
        backbone.blocks[i] = Replace(backbone.blocks[i], prompts, i, prefix)
    backbone.norm = Remove(backbone.norm, prompts, 0, prefix)
    return {"prompt": prompts}
