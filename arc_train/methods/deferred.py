"""The modules of the methods, imported when one of their functions is called or looked into.

So the table of methods, which a leaderboard needs too, doesn't cost the import of torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Function:
    """A function of a module; `inspect` sees the signature of the real one."""

    module: str
    name: str

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(self.module), self.name)
        return function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the real one."""
        return self.__wrapped__(*arguments, **named)


@dataclass(frozen=True)
class Module:
    """A module by its full name, with the functions that it is asked for."""

    name: str

    def __getattr__(self, function: str) -> Function:
        if function.startswith("__"):
            raise AttributeError(function)
        return Function(self.name, function)


def __getattr__(name: str) -> Any:
    """`from arc_train.methods.deferred import lora`: that module, not yet imported."""
    if name.startswith("__"):
        raise AttributeError(name)
    return Module(f"arc_train.methods.{name}")
