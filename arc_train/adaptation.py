"""`adapt` a frozen timm model, take its adapter out, put it back, or `fold` it in."""

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from arc_train.adapting import Adapting
from arc_train.dropout import SeededDropout
from arc_train.errors import InputError, NotFoldable
from arc_train.methods import METHODS
from arc_train.structure import before_last_block, call_layers, entrances, from_last_block
from arc_train.trained import HEAD_BIAS, HEAD_WEIGHT, Trained, state_of
from arc_train.trials import Trials


class Head(nn.Module):
    """The classifiers of T trials: `weight` [T, K, D], `bias` [T, K]."""

    def __init__(self, trained: Trained, width: int, classes: int) -> None:
        super().__init__()
        self.weight = trained.zeros(HEAD_WEIGHT, classes, width)
        self.bias = trained.zeros(HEAD_BIAS, classes)

    def forward(self, features: Tensor, shared: bool) -> Tensor:
        """Features [T*B, D], or [B, D] that are shared by the trials -> logits [T, B, K]."""
        trials, classes, width = self.weight.shape
        if shared:  # one product for all trials
            weight = self.weight.reshape(trials * classes, width)
            logits = features @ weight.mT
            return logits.view(-1, trials, classes).transpose(0, 1) + self.bias[:, None]
        rows = features.view(trials, len(features) // trials, width)
        return torch.baddbmm(self.bias[:, None], rows, self.weight.mT)


class Adapted(nn.Module):
    """A frozen backbone with a method's tensors and a new head; called like the timm model.

    neck: layers between pooled features and head (those of `mlp` and `knn`), or None.
    names: of the plain backbone's tensors.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: str,
        parts: Adapting,
        neck: nn.Module | None,
        head: Head,
        names: frozenset[str],
    ) -> None:
        super().__init__()
        self.method = method
        self.trained, self.trials, self.noise = parts.trained, parts.trials, parts.noise
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.names = names

    def frozen(self, images: Tensor) -> Tensor:
        """What enters the first trained layer, where that is worth keeping.

        Images [B, 3, S, S] -> pooled features [B, D] where only the head is trained, tokens
        [B, ..., D] where the last block is; other methods have nothing to keep.
        """
        self.trials.shared = False
        if METHODS[self.method].trains == "last block":
            return before_last_block(self.backbone, images)
        return self._pooled(self.backbone.forward_features(images))  # type: ignore[operator]

    def logits(self, inputs: Tensor, shared: bool = False, frozen: bool = False) -> Tensor:
        """Logits [T, B, K] of all trials.

        inputs: images [T*B, 3, S, S], trial-major, or with `frozen` what `frozen` returned.
        shared: inputs are [B, ...], the same for all trials.
        """
        trains = METHODS[self.method].trains
        if trains == "head" and not frozen:
            inputs, frozen = self.frozen(inputs), True
        self.trials.count = len(self.head.weight)
        self.trials.shared = shared
        self.noise.begin(self.trials.count, inputs.device)
        if not frozen:
            features = self._pooled(self.backbone.forward_features(inputs))  # type: ignore[operator]
        elif trains == "last block":
            features = self._pooled(from_last_block(self.backbone, self.trials.widen(inputs)))
        else:
            features = inputs
        if self.neck is not None:
            features = self.neck(self.trials.widen(features))
        logits: Tensor = self.head(features.to(self.head.weight.dtype), self.trials.shared)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Images [T*B, 3, S, S] -> pooled features [T*B, D], adapted."""
        self.trials.shared = False
        self.noise.begin(len(self.head.weight), images.device)
        return self._pooled(self.backbone.forward_features(images))  # type: ignore[operator]

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> logits [B, K]; of T trials, trial-major, [T*B, K]."""
        return self.logits(images).flatten(0, 1)

    def train(self, mode: bool = True) -> "Adapted":
        """Training mode for what the method added; the backbone's own drop path stays off."""
        super().train(mode)
        for module in self.backbone.modules():
            if not isinstance(module, SeededDropout):
                module.training = False
        return self

    def _pooled(self, tokens: Tensor) -> Tensor:
        pooled: Tensor = self.backbone.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
        return pooled


def adapt(
    backbone: nn.Module,
    method: str,
    num_classes: int,
    *,
    generator: torch.Generator | None = None,
    images: int = 0,
    **hyperparameters: float | str,
) -> Adapted:
    """Adapt a timm model with `method`; only the method's parameters and the head require grad.

    method: a name in METHODS, or the dotted name of a module of yours (arc_train.methods.own).
    generator: what initial values are drawn from, or None for torch's global one.
    images: how many are trained on, for a method that keeps something of each (`knn`).

    The given backbone stays as it was: the result shares its frozen weights and owns the rest.
    The head starts at zero, as in the published ARC scripts, so that first logits are equal.

    Raises:
        KeyError: unknown method.
        TypeError: a hyperparameter that the method doesn't have.
        InputError: a backbone whose structure the method doesn't know, or a module that is no
            method.
    """
    try:
        attach = METHODS[method].attach
    except KeyError:
        raise KeyError(f"unknown method {method!r}; known: {', '.join(METHODS)}") from None
    inner = share(backbone).requires_grad_(False).eval()
    inner.reset_classifier(0)  # type: ignore[operator]
    call_layers(inner)
    names = frozenset(inner.state_dict())
    device = next(backbone.parameters()).device
    parts = Adapting(generator, device, images)
    for entrance in entrances(inner)[:1]:
        entrance.register_forward_hook(_Widen(parts.trials))
    neck = attach(inner, parts, **hyperparameters)
    width: int = getattr(neck, "width", inner.num_features)  # type: ignore[arg-type]
    head = Head(parts.trained, width, num_classes)
    return Adapted(inner, method, parts, neck, head, names).to(device)


def try_adapt(backbone: nn.Module, name: str, method: str, **setting: Any) -> Adapted:
    """Adapt a backbone to two classes, to see whether and how a method does it.

    name: the backbone's, for messages.

    Raises:
        InputError: the method can't; of a user's own method whatever it raises.
    """
    try:
        return adapt(backbone, method, 2, **setting)
    except Exception as error:
        own = "." in method
        if not own and not isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        if not isinstance(error, InputError):
            reason = f"{type(error).__name__}: {reason}"
        raise InputError(f"method {method!r} can't adapt backbone {name!r}: {reason}") from error


class _Widen:
    """A forward hook that widens what it gets: the first block sees a batch for each trial."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return self.trials.widen(output)


def share(model: nn.Module) -> nn.Module:
    """A structural copy: new modules, the same parameter and buffer tensors."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})


def trainable(model: Adapted) -> dict[str, nn.Parameter]:
    """The parameters that require grad, under their names in the adapter format.

    Each has a leading trial dimension, here 1, but for the backbone's own weights.
    """
    return dict(model.trained.parameters)


def adapter_state(model: Adapted) -> dict[str, Tensor]:
    """The trained tensors under their names in the adapter format (docs/result-format.md)."""
    return state_of(model.trained)


def load_adapter(model: Adapted, state: Mapping[str, Tensor]) -> None:
    """Put an adapter back, in place.

    Raises:
        InputError: names every tensor that is missing, unknown or of another shape.
    """
    own = state_of(model.trained)
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"unknown {name}" for name in state if name not in own]
    faults += [
        f"{name} is {list(state[name].shape)}, the model has {list(p.shape)}"
        for name, p in own.items()
        if name in state and state[name].shape != p.shape
    ]
    if faults:
        raise InputError("adapter doesn't fit the model: " + "; ".join(faults))
    for name, tensor in own.items():
        tensor.copy_(state[name])


def fold(model: Adapted) -> nn.Module:
    """Merge the adapter into a plain timm model with the same logits (to float rounding).

    Its `state_dict` loads into `timm.create_model(name, num_classes=K)`.

    Raises:
        NotFoldable: the method has no linear equivalent, or the backbone lacks a tensor for it;
            the message says why.
    """
    plain = copy.deepcopy(model)
    with torch.no_grad():
        METHODS[model.method].fold(plain.backbone)
    timm_model = plain.backbone
    if more := timm_model.state_dict().keys() - model.names:
        raise NotFoldable(
            f"{model.method} needs {min(more)}, which {type(timm_model).__name__} doesn't have"
        )
    for entrance in entrances(timm_model)[:1]:
        hooks = entrance._forward_hooks
        for key in [key for key, hook in hooks.items() if isinstance(hook, _Widen)]:
            del hooks[key]
    state = state_of(plain.trained)
    timm_model.reset_classifier(len(state[HEAD_BIAS]))  # type: ignore[operator]
    classifier: nn.Linear = timm_model.get_classifier()  # type: ignore[operator]
    classifier.load_state_dict({"weight": state[HEAD_WEIGHT], "bias": state[HEAD_BIAS]})
    return timm_model.to(model.head.weight.device).requires_grad_(False).eval()
