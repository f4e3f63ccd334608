"""`adapt` a frozen timm model, take its adapter out, put it back, or `fold` it in."""

import copy
import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from arc_train.dropout import SeededDropout
from arc_train.methods import METHODS


class Adapted(nn.Module):
    """A frozen backbone with a method's parameters and a new head; called like the timm model.

    The method's modules are registered before the backbone, so `named_parameters` gives each
    trainable tensor its name in the adapter format: `arc.attn.down`, `head.weight`, ...
    """

    def __init__(
        self, backbone: nn.Module, method: str, adapters: Mapping[str, nn.Module], head: nn.Linear
    ) -> None:
        super().__init__()
        self.method = method
        for name, module in adapters.items():
            if name != "mlp":
                self.add_module(name, module)
        self.mlp: nn.Module | None = adapters.get("mlp")
        self.head = head
        self.backbone = backbone

    def features(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> pooled features [B, D], the head's input."""
        tokens = self.backbone.forward_features(images)  # type: ignore[operator]
        pooled: Tensor = self.backbone.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
        return pooled

    def forward(self, inputs: Tensor, pooled: bool = False) -> Tensor:
        """Images [B, 3, S, S] (or, with `pooled`, features [B, D]) -> logits [B, K]."""
        features = inputs if pooled else self.features(inputs)
        if self.mlp is not None:
            features = self.mlp(features)
        logits: Tensor = self.head(features)
        return logits

    def train(self, mode: bool = True) -> "Adapted":
        """Training mode for what the method added; the backbone's own drop path stays off."""
        super().train(mode)
        for module in self.backbone.modules():
            if not isinstance(module, SeededDropout):
                module.training = False
        return self


def adapt(
    backbone: nn.Module,
    method: str,
    num_classes: int,
    *,
    generator: torch.Generator | None = None,
    **hyperparameters: float | str,
) -> Adapted:
    """Adapt a timm model with `method`; only the method's parameters and the head require grad.

    The given backbone stays as it was: the result shares its frozen weights and owns the rest.
    The head starts at zero, as in the published ARC scripts, so that first logits are equal.

    Raises:
        KeyError: unknown method.
        TypeError: a hyperparameter that the method doesn't have.
        InputError: a backbone whose structure the method doesn't know.
    """
    if method not in METHODS:
        raise KeyError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    inner = share(backbone).requires_grad_(False).eval()
    width: int = inner.num_features  # type: ignore[assignment]
    inner.reset_classifier(0)  # type: ignore[operator]
    adapters = METHODS[method].attach(inner, generator, **hyperparameters)
    head = nn.Linear(width, num_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    device = next(backbone.parameters()).device
    return Adapted(inner, method, adapters, head).to(device)


def share(model: nn.Module) -> nn.Module:
    """A structural copy: new modules, the same parameter and buffer tensors."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require grad, under their names in the model, in a fixed order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The trained tensors under their names in the adapter format (design.md, Contracts)."""
    return {name.removeprefix("backbone."): p.detach() for name, p in trainable(model).items()}


def load_adapter(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put an adapter back, in place.

    Raises:
        ValueError: names every tensor that is missing, unknown or of another shape.
    """
    own = {name.removeprefix("backbone."): p for name, p in trainable(model).items()}
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"unknown {name}" for name in state if name not in own]
    faults += [
        f"{name} is {list(state[name].shape)}, the model has {list(p.shape)}"
        for name, p in own.items()
        if name in state and state[name].shape != p.shape
    ]
    if faults:
        raise ValueError("adapter doesn't fit the model: " + "; ".join(faults))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])


def fold(model: Adapted) -> nn.Module:
    """Merge the adapter into a plain timm model with the same logits (to float rounding).

    Its `state_dict` loads into `timm.create_model(name, num_classes=K)`.

    Raises:
        NotFoldable: the method has no linear equivalent; the message says why.
    """
    plain = copy.deepcopy(model)
    with torch.no_grad():
        METHODS[model.method].fold(plain)
    timm_model = plain.backbone
    timm_model.reset_classifier(model.head.out_features)  # type: ignore[operator]
    classifier: nn.Linear = timm_model.get_classifier()  # type: ignore[operator]
    classifier.load_state_dict(model.head.state_dict())
    return timm_model.to(model.head.weight.device).requires_grad_(False).eval()
