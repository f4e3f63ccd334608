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

from arc_train.adapting import Adapting
from arc_train.errors import NotFoldable
from arc_train.methods.swin_prompts import PromptedStage
from arc_train.structure import is_swin, sites
from arc_train.trials import for_each_image


class Prompted(nn.Module):
    """A frozen block before which prompts [T, p, D] enter, after the first `prefix` tokens.

    replaced: whether they take the places of p prompts that are there already.
    """

    def __init__(self, block: nn.Module, prompt: nn.Parameter, prefix: int, replaced: bool) -> None:
        super().__init__()
        self.block = block
        self.prompt = prompt
        self.prefix = prefix
        self.replaced = replaced

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """x [T*B, N, D], or [T*B, N + p, D] if replaced -> [T*B, N + p, D]."""
        own = for_each_image(self.prompt, len(x)).to(x.dtype)
        rest = self.prefix + (self.prompt.shape[1] if self.replaced else 0)
        tokens = torch.cat([x[:, : self.prefix], own, x[:, rest:]], dim=1)
        out: Tensor = self.block(tokens, **options)
        return out


class _Unrotated:
    """A hook before a block: prompts have no position, so its rotation leaves them as they are."""

    def __init__(self, first: Prompted) -> None:
        self.first = first

    def __call__(
        self, block: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rope: Tensor | None = options.get("rope")  # [N, 2 * head width]: sines, then cosines
        if rope is None:
            return inputs, options
        sines, cosines = rope.new_zeros(self.first.prompt.shape[1], rope.shape[-1]).chunk(2, dim=-1)
        unmoved = torch.cat([sines, cosines + 1], dim=-1)
        return inputs, {**options, "rope": torch.cat([unmoved, rope])}


class Unprompted(nn.Module):
    """A frozen module before which the prompts are taken out."""

    def __init__(self, module: nn.Module, prompt: nn.Parameter, prefix: int) -> None:
        super().__init__()
        self.module = module
        self.prompt = prompt
        self.prefix = prefix

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, N + p, D] -> [T*B, N, D]."""
        rest = self.prefix + self.prompt.shape[1]
        out: Tensor = self.module(torch.cat([x[:, : self.prefix], x[:, rest:]], dim=1))
        return out


def attach_shallow(backbone: Any, parts: Adapting, tokens: int = 50) -> None:
    """Prompts before the first block."""
    _attach(backbone, parts, int(tokens), depth=1)


def attach_deep(backbone: Any, parts: Adapting, tokens: int = 10) -> None:
    """Prompts before every block."""
    _attach(backbone, parts, int(tokens), depth=len(sites(backbone)))


def fold(backbone: nn.Module) -> None:
    """Prompts don't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("prompts are tokens in the input of the blocks, not a part of any weight")


def _attach(backbone: Any, parts: Adapting, tokens: int, depth: int) -> None:
    blocks = sites(backbone)
    patch = backbone.patch_embed.patch_size
    bound = math.sqrt(6 / (3 * patch[0] * patch[1] + blocks[0].width))
    prompts = [
        parts.trained.uniform(f"prompt.{i}", tokens, site.width, bound=bound)
        for i, site in enumerate(blocks[:depth])
    ]
    if is_swin(backbone):
        own = iter([*prompts, *[None] * (len(blocks) - depth)])
        for i, stage in enumerate(list(backbone.layers)):
            last = i == len(backbone.layers) - 1
            backbone.layers[i] = PromptedStage(stage, [next(own) for _ in stage.blocks], last)
        return
    prefix = backbone.num_prefix_tokens
    plain = list(backbone.blocks)
    for i, prompt in enumerate(prompts):
        backbone.blocks[i] = Prompted(plain[i], prompt, prefix, replaced=i > 0)
    for block in plain:
        block.register_forward_pre_hook(_Unrotated(backbone.blocks[0]), with_kwargs=True)
    backbone.norm = Unprompted(backbone.norm, prompts[0], prefix)
