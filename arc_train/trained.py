"""What a method trains: the one place that knows a trained tensor's name, shape and draws."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from arc_train.precision import original

HEAD = "head."
HEAD_WEIGHT, HEAD_BIAS, HEAD_MEMORY = f"{HEAD}weight", f"{HEAD}bias", f"{HEAD}memory"


class Trained:
    """The trained tensors of a model under their names in the adapter format.

    A method adds its tensors in the shape of one trial and places the parameters it gets back into
    its modules; one parameter may stand in several modules. A parameter has a leading trial
    dimension, [1, ...]; a pack puts tensors [T, ...] in its places.

    generator: what initial values are drawn from, on the CPU, so that they are the same on every
        device; None is torch's global generator. device: where the tensors lie.
    """

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.generator = generator
        self.device = device
        self.parameters: dict[str, nn.Parameter] = {}
        self._in_place: set[str] = set()

    def add(self, name: str, value: Tensor) -> nn.Parameter:
        """A new tensor with this value for one trial."""
        self.parameters[name] = nn.Parameter(value.detach()[None].to(self.device, copy=True))
        return self.parameters[name]

    def zeros(self, name: str, *shape: int) -> nn.Parameter:
        """A new tensor of zeros."""
        return self.add(name, torch.zeros(shape))

    def uniform(self, name: str, *shape: int, bound: float) -> nn.Parameter:
        """A new tensor drawn uniformly from -bound to bound."""
        return self.add(name, (torch.rand(shape, generator=self.generator) * 2 - 1) * bound)

    def normal(self, name: str, *shape: int, std: float, mean: float = 0.0) -> nn.Parameter:
        """A new tensor drawn from a normal distribution."""
        return self.add(name, mean + std * torch.randn(shape, generator=self.generator))

    def own(self, name: str, weight: Tensor) -> nn.Parameter:
        """A copy of one of the backbone's own weights, trained in place: no trial dimension."""
        self.parameters[name] = nn.Parameter(original(weight).detach().to(self.device, copy=True))
        self._in_place.add(name)
        return self.parameters[name]

    def of_one_trial(self, name: str) -> Tensor:
        """The tensor in the shape of one trial, sharing its memory."""
        parameter = self.parameters[name].detach()
        return parameter if name in self._in_place else parameter[0]

    def in_place(self, name: str) -> bool:
        """Whether the tensor is one of the backbone's own weights."""
        return name in self._in_place

    def places(self, model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
        """For each tensor the (module, attribute) pairs of `model` that hold it."""
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        found: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in self.parameters}
        for module in model.modules():
            for attribute, parameter in module._parameters.items():
                if id(parameter) in names:
                    found[names[id(parameter)]].append((module, attribute))
        return found


def state_of(trained: Trained) -> dict[str, Tensor]:
    """Name -> tensor of one trial."""
    return {name: trained.of_one_trial(name) for name in trained.parameters}


def count(state: Mapping[str, Tensor | torch.Size]) -> tuple[int, int]:
    """Trained parameters of one trial: (with the head, without it)."""
    sizes = {
        name: (entry.shape if isinstance(entry, Tensor) else entry).numel()
        for name, entry in state.items()
    }
    below = sum(size for name, size in sizes.items() if not name.startswith(HEAD))
    return sum(sizes.values()), below
