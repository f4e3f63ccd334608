"""BitFit as in the VPT code: every parameter with "bias" in its name is trained, norms' included.

In a Swin that takes in the tables of relative position biases; the published parameter count is
matched only with them.
"""

from typing import Any

from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.errors import InputError
from arc_train.methods.folding import merge
from arc_train.structure import replace
from arc_train.trials import Trials, per_channel

TABLE = "relative_position_bias_table"


class Biased(nn.Module):
    """A frozen operation without its bias, then `bias` [T, C] on the channels."""

    def __init__(self, operation: Any, bias: nn.Parameter, trials: Trials) -> None:
        super().__init__()
        self.operation = operation
        operation.bias = None
        self.bias = bias
        self.trials = trials
        self.behind = 2 if isinstance(operation, nn.Conv2d) else 0  # axes behind the channels

    def forward(self, x: Tensor) -> Tensor:
        """What the operation takes -> its output [T*B, ..., C] or [T*B, C, H, W], with the bias."""
        y: Tensor = self.trials.widen(self.operation(x))
        rows = y.view(len(self.bias), -1, *y.shape[1:])
        out: Tensor = (rows + per_channel(self.bias, rows, self.behind)).flatten(0, 1)
        return out

    def folded(self) -> nn.Module:
        """The operation with its trained bias."""
        self.operation.bias = nn.Parameter(self.bias[0].clone())
        operation: nn.Module = self.operation
        return operation


class BiasedWindows(nn.Module):
    """A frozen window attention with a table [T, positions, heads] of its own for each trial."""

    def __init__(self, attn: Any, table: nn.Parameter) -> None:
        super().__init__()
        self.attn = attn
        self.table = table

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Windows [T*B*W, N, D], trial-major -> the same shape; mask [W, N, N] of shifted ones."""
        attn, (windows, length, _), trials = self.attn, x.shape, self.table.shape[0]
        qkv = attn.qkv(x).reshape(windows, length, 3, attn.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        index = attn.relative_position_index.view(-1)
        bias = self.table[:, index].view(trials, 1, length, length, -1).movedim(-1, 2)
        if mask is not None:  # [T, W, heads, N, N]
            bias = bias + mask[:, None]
        scores = (q * attn.scale) @ k.mT
        shape = scores.shape
        scores = scores.view(trials, -1, bias.shape[1], *shape[1:]) + bias[:, None]
        out = scores.view(shape).softmax(dim=-1) @ v
        mixed: Tensor = attn.proj(out.transpose(1, 2).reshape(windows, length, -1))
        return mixed

    def folded(self) -> nn.Module:
        """The attention with its trained table."""
        self.attn.relative_position_bias_table = nn.Parameter(self.table[0].clone())
        attn: nn.Module = self.attn
        return attn


def attach(backbone: nn.Module, parts: Adapting) -> None:
    """Every bias of the backbone, in a copy of its own.

    Raises:
        InputError: the backbone has a bias in a layer that this method doesn't know.
    """
    modules = list(backbone.named_modules())
    for path, module in reversed(modules):  # what a module holds before the module itself
        for attribute, parameter in list(module.named_parameters(recurse=False)):
            name = f"{path}.{attribute}" if path else attribute
            if "bias" not in name:
                continue
            adapted: nn.Module
            if attribute == "bias" and isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
                own = parts.trained.add(name, parameter.detach())
                adapted = Biased(module, own, parts.trials)
            elif attribute == TABLE and isinstance(module, WindowAttention):
                adapted = BiasedWindows(module, parts.trained.add(name, parameter.detach()))
            else:
                raise InputError(
                    f"bias can't train {name} of {type(module).__name__}; choose a timm vit_* "
                    "(plain pre-norm) or swin_* model"
                )
            replace(backbone, path, adapted)


fold = merge
