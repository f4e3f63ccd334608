"""LoRA in the format of Hugging Face's peft, which then loads it without this project."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.structure import sites
from arc_train.trained import HEAD_BIAS, HEAD_WEIGHT

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


def peft_lora(
    backbone: nn.Module, state: Mapping[str, Tensor], rank: int, scale: float
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """peft's tensors by name, and its configuration, of `lora` on a timm model.

    peft updates the fused qkv as a whole: rank 2r, with the factors of q and v in blocks, and
    zeros in B for the rows of k.
    """
    names = {module: name for name, module in backbone.named_modules()}
    tensors: dict[str, Tensor] = {}
    for i, site in enumerate(sites(backbone)):
        q, v = (f"lora.{i}.{part}" for part in ("q", "v"))
        b = state[f"{q}.B"].new_zeros(3 * site.width, 2 * rank)
        b[: site.width, :rank] = state[f"{q}.B"]
        b[2 * site.width :, rank:] = state[f"{v}.B"]
        place = f"{_PREFIX}{names[site.block.attn.qkv]}"
        tensors[f"{place}.lora_A.weight"] = torch.cat([state[f"{q}.A"], state[f"{v}.A"]])
        tensors[f"{place}.lora_B.weight"] = b
    head = names[backbone.get_classifier()]  # type: ignore[operator]
    tensors[f"{_PREFIX}{head}.weight"] = state[HEAD_WEIGHT]
    tensors[f"{_PREFIX}{head}.bias"] = state[HEAD_BIAS]
    config = {
        "peft_type": "LORA",
        "r": 2 * rank,
        "lora_alpha": 2 * rank * scale,
        "lora_dropout": 0.0,
        "target_modules": ["qkv"],
        "modules_to_save": [head],
        "bias": "none",
        "inference_mode": True,
    }
    return tensors, config
