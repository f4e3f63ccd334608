"""VPT's prompts in a Swin (Jia et al., ECCV 2022, section 3.2): beside the grid, in every window.

A block's prompts join each window's attention, without relative position, and are averaged over an
image's windows afterwards. Where patches merge, four copies of a prompt merge in the same way.
Two things differ from the released code. Its copies for the windows are ordered by window, then
image, while the windows are ordered by image, so that beyond the first block images see each
other's prompts; here they don't. And it averages prompts with the patches at the end; here, as on
a ViT, the features are those of the patches.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.trials import for_each_image

State = Tensor | tuple[Tensor, Tensor]


class PromptedStage(nn.Module):
    """A frozen Swin stage that carries prompts [T*B, p, D] along with its grid [T*B, H, W, D].

    prompts: for each of its blocks prompts [T, p, D] of its own, which replace those that arrive,
    or None. last: whether it is the last stage, which drops them.
    """

    def __init__(self, stage: Any, prompts: Sequence[nn.Parameter | None], last: bool) -> None:
        super().__init__()
        self.downsample = stage.downsample
        self.last = last
        self.blocks = nn.ModuleList(map(PromptedBlock, stage.blocks, prompts))

    def forward(self, state: State) -> State:
        """Grid, or (grid, prompts) -> (grid, prompts), or the grid from the last stage."""
        grid, prompts = state if isinstance(state, tuple) else (state, None)
        merging = self.downsample
        grid = merging(grid)
        if prompts is not None and hasattr(merging, "reduction"):
            prompts = merging.reduction(merging.norm(prompts.repeat(1, 1, 4))).to(grid.dtype)
        for block in self.blocks:
            grid, prompts = block(grid, prompts)
        return grid if self.last or prompts is None else (grid, prompts)


class PromptedBlock(nn.Module):
    """A frozen Swin block, whose own prompts, if it has any, replace those that arrive."""

    prompt: nn.Parameter | None

    def __init__(self, block: nn.Module, prompt: nn.Parameter | None) -> None:
        super().__init__()
        self.block = block
        self.register_parameter("prompt", prompt)

    def forward(self, grid: Tensor, prompts: Tensor | None) -> tuple[Tensor, Tensor]:
        """[T*B, H, W, D] and [T*B, p, D] -> the same."""
        if self.prompt is not None:
            prompts = for_each_image(self.prompt, len(grid)).to(grid.dtype)
        assert prompts is not None, "the first block has prompts"
        return _block(self.block, grid, prompts)


def _block(block: Any, grid: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """timm's Swin block with prompts: [B, H, W, D] and [B, p, D] -> the same."""
    batch, height, width, dim = grid.shape
    count, window = prompts.shape[1], block.window_size
    shift = tuple(block.shift_size)
    y = torch.roll(block.norm1(grid), (-shift[0], -shift[1]), dims=(1, 2))
    below, right = -height % window[0], -width % window[1]
    y = F.pad(y, (0, 0, 0, right, 0, below))
    windows = window_partition(y, window).reshape(-1, block.window_area, dim)
    number = windows.shape[0] // batch
    copies = block.norm1(prompts).repeat_interleave(number, dim=0)
    mask = block.get_attn_mask(y) if getattr(block, "dynamic_mask", False) else block.attn_mask
    out = _attend(block.attn, torch.cat([copies, windows], dim=1), mask, count)
    seen, out = out[:, :count], out[:, count:]
    y = window_reverse(
        out.reshape(-1, window[0], window[1], dim), window, height + below, width + right
    )
    y = torch.roll(y[:, :height, :width], shift, dims=(1, 2))
    grid = grid + block.drop_path1(y)
    grid = grid + block.drop_path2(block.mlp(block.norm2(grid)))
    prompts = prompts + block.drop_path1(seen.reshape(batch, number, count, dim).mean(dim=1))
    prompts = prompts + block.drop_path2(block.mlp(block.norm2(prompts)))
    return grid, prompts


def _attend(attn: Any, tokens: Tensor, mask: Tensor | None, prompts: int) -> Tensor:
    """Window attention [windows, p + N, D] -> the same; prompts have neither position nor mask."""
    windows, length, _ = tokens.shape
    qkv = attn.qkv(tokens).reshape(windows, length, 3, attn.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    bias = attn._get_rel_pos_bias()
    if mask is not None:
        bias = bias + mask.unsqueeze(1)
    bias = F.pad(bias, (prompts, 0, prompts, 0))
    scores = (q * attn.scale) @ k.transpose(-2, -1)
    scores = scores.reshape(-1, bias.shape[0], *scores.shape[1:]) + bias
    weights = scores.reshape(windows, *scores.shape[2:]).softmax(dim=-1)
    out: Tensor = attn.proj((weights @ v).transpose(1, 2).reshape(windows, length, -1))
    return out
