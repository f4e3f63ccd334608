"""AdaptFormer (Chen et al., NeurIPS 2022): a bottleneck beside the FFN.

    x  ->  x + FFN(norm2(x)) + s up(dropout(ReLU(down(x))))

It reads the residual stream before the norm, as the released code does and its authors confirm; the
paper's figure has the norm first. `down` is Kaiming-uniform and `up` zero: the model starts as the
backbone. Other codes drop the biases or take GELU under the same name.
"""

import math
from functools import partial

from torch import nn

from arc_train.adapting import Adapting
from arc_train.errors import NotFoldable
from arc_train.methods.adapter import Linear
from arc_train.methods.bottleneck import Bottleneck, Branched, wrap_blocks
from arc_train.structure import Site


def attach(
    backbone: nn.Module,
    parts: Adapting,
    rank: int = 64,
    scale: float = 0.1,
    dropout: float = 0.1,
) -> None:
    """One bottleneck beside the FFN of every block."""
    trained = parts.trained

    def wrap(i: int, site: Site) -> nn.Module:
        kaiming = partial(trained.uniform, bound=1 / math.sqrt(site.width))
        key = f"adaptformer.{i}"
        down = Linear(trained, f"{key}.down", int(rank), site.width, kaiming)
        up = Linear(trained, f"{key}.up", site.width, int(rank), trained.zeros)
        inner = nn.Sequential(nn.ReLU(), parts.dropout(dropout))
        return Branched(site.block, None, Bottleneck(down, inner, up, scale), normed=False)

    wrap_blocks(backbone, wrap)


def fold(backbone: nn.Module) -> None:
    """AdaptFormer doesn't fold.

    Raises:
        NotFoldable: always.
    """
    raise NotFoldable("adaptformer has a ReLU between its layers: no linear layer equals it")
