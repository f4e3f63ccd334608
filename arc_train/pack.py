"""A pack: the trials of one study trained as one plain model with a trial dimension.

Each trial is a row of one matrix [T, P]: its trained tensors, padded with zeros to the widest rank
of the pack and flattened. The model's trained tensors are views of the rows, so that the gradient
of all losses' sum is a matrix with a row for each trial, and what follows is row arithmetic.
Zero padding is a fixed point of training (a padded column gets exactly zero gradient), so a trial
trains as it would alone.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arc_train.adaptation import Adapted, adapt
from arc_train.dropout import SeededDropout
from arc_train.layout import Layout
from arc_train.memory import Memory
from arc_train.methods import METHODS
from arc_train.optimizer import AdamW, Schedule, clocks
from arc_train.precision import type_of
from arc_train.seeding import seed_of
from arc_train.trained import count, state_of

# Hyperparameters of the optimiser; every other one goes to the method.
OPTIMISER = ("lr", "weight_decay")
# Products are fastest where widths are multiples of this.
MULTIPLE = 8
T = TypeVar("T")


def of_the_method(config: Mapping[str, float | str]) -> dict[str, float | str]:
    """The hyperparameters of a configuration that the method takes."""
    return {name: value for name, value in config.items() if name not in OPTIMISER}


@dataclass(frozen=True)
class Member:
    """One trial of a pack: its configuration and the seed of its initialisation and dropout."""

    id: str
    config: Mapping[str, float | str]
    seed: int


class Pack:
    """The state of some trials in training.

    Args:
        backbone: frozen timm model on the device to train on; not changed.
        method: a name in METHODS.
        members: the trials; `members` of the pack has them in an order of its own.
        clip: largest gradient norm of a trial.
        chunk: how many trials are fused at a time, or None for as many as memory holds; halved
            when it runs out all the same.
        images: how many each trial is trained on.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: str,
        num_classes: int,
        members: Sequence[Member],
        clip: float = 1.0,
        chunk: int | None = None,
        images: int = 0,
    ) -> None:
        self.method = METHODS[method]
        self.members = sorted(members, key=self._group)
        self.chunk = 1 if self.method.in_place else chunk
        self.device = next(backbone.parameters()).device
        self.memory = Memory(self.device)
        self.step = 0
        self._images = images
        models = [self._alone(backbone, method, num_classes, member) for member in self.members]
        states = [state_of(model.trained) for model in models]
        self.model = self._widest(backbone, method, num_classes, models)
        self.layout = Layout(states, state_of(self.model.trained))
        self.rows = self.layout.rows(states).to(self.device)
        self._places = self.model.trained.places(self.model)
        self.compute_type = type_of(backbone)
        self._ones = torch.ones(len(members), dtype=self.rows.dtype, device=self.device)
        self.optimizer = self._optimizer(clip)
        self._gather_constants(backbone, models)
        self.model.requires_grad_(False)

    def _alone(self, backbone: nn.Module, method: str, num_classes: int, member: Member) -> Adapted:
        hyper = of_the_method(member.config)
        draws = torch.Generator().manual_seed(self.init_seed(member))
        return adapt(backbone, method, num_classes, generator=draws, images=self._images, **hyper)

    @staticmethod
    def init_seed(member: Member) -> int:
        """The seed of a trial's initial adapter."""
        return seed_of(member.seed, "init")

    def _widest(
        self, backbone: nn.Module, method: str, num_classes: int, models: Sequence[Adapted]
    ) -> Adapted:
        """The model that all trials run through: modules take their shapes from their tensors."""
        if not self.method.ranked:
            return models[0]
        default = inspect.signature(self.method.attach).parameters["rank"].default
        widest = max(int(member.config.get("rank", default)) for member in self.members)
        rank = -(-widest // MULTIPLE) * MULTIPLE
        config = {**self.members[0].config, "rank": rank}
        return self._alone(backbone, method, num_classes, Member("", config, 0))

    def _optimizer(self, clip: float) -> AdamW:
        lr, decay = (
            [float(member.config.get(key, 0.0)) for member in self.members] for key in OPTIMISER
        )
        decayed = torch.ones(1) if self.method.decays_vectors else 1 - self.layout.vectors()
        return AdamW(self.rows, lr, decay, decayed, clip)

    def _gather_constants(self, backbone: nn.Module, models: Sequence[Adapted]) -> None:
        """Scalars that a method's modules hold (dropout rates, scales): a column for each."""
        of_backbone = {id(buffer) for buffer in backbone.buffers()}
        names = [
            name
            for name, buffer in self.model.named_buffers()
            if id(buffer) not in of_backbone and buffer.is_floating_point()
        ]
        self._constants = [
            (self.model.get_submodule(path), attribute)
            for path, _, attribute in (name.rpartition(".") for name in names)
        ]
        empty = torch.empty(0, device=self.device)
        rows = [torch.cat([empty, *map(model.get_buffer, names)]) for model in models]
        self._values = torch.stack(rows).to(self.rows.dtype)
        for name, module in self.model.named_modules():
            if isinstance(module, SeededDropout):
                module.active = any(model.get_submodule(name).active for model in models)

    def state(self, index: int) -> dict[str, Tensor]:
        """The trained tensors of one trial in the adapter format, at its own rank, on the CPU."""
        cut = self.layout.cut(index)
        views = self.layout.views(self.rows[index : index + 1])
        return {name: view[0][cut[name]].clone().cpu() for name, view in views.items()}

    def solve(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Put the method's closed form into each trial's row: features [N, D], labels [N]."""
        assert self.method.solve is not None
        for i, member in enumerate(self.members):
            views = self.layout.views(self.rows[i : i + 1])
            solved = self.method.solve(features, labels, classes, **of_the_method(member.config))
            for name, value in solved.items():
                views[name][0].copy_(value)

    def trainable_params(self, index: int) -> tuple[int, int]:
        """Trained parameters of one trial: (with the head, without)."""
        return count(self.layout.own[index])

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all trials but these; the others cost nothing from now on."""
        index = torch.tensor(list(indices), dtype=torch.int64, device=self.device)
        self.rows, self._values = self.rows[index], self._values[index]
        self.optimizer.keep(index)
        self.members = [self.members[i] for i in indices]
        self.layout.keep(indices)

    def schedule(self, lr_scales: Sequence[float]) -> Schedule:
        """What the next steps need beside their batches, on the device."""
        steps = range(self.step, self.step + len(lr_scales))
        seeds = [
            [seed_of(member.seed, "dropout", step) - 2**31 for member in self.members]
            for step in steps
        ]
        return Schedule(
            clocks(lr_scales, self.step + 1).to(self.device),
            torch.tensor(seeds, dtype=torch.int32).to(self.device),
        )

    def train_step(
        self, inputs: Tensor, labels: Tensor, clock: Tensor, seeds: Tensor, frozen: bool = False
    ) -> Tensor:
        """One AdamW step of every trial -> losses [T] before the step.

        inputs: images [B, 3, S, S] (with `frozen`, what `Adapted.frozen` gives) shared by the
            trials, or [T, B, ...] with a batch for each trial; labels [B] or [T, B].
        clock, seeds: a row of a `Schedule`.

        Nothing is read back from the device. `optimizer.failed` tells where a loss or a gradient
        was not finite.
        """
        losses, gradients = self._gradients(inputs, labels, seeds, frozen)
        self.optimizer.step(self.rows, gradients, losses, clock)
        self.step += 1
        return losses

    @torch.no_grad()
    def logits(self, inputs: Tensor, frozen: bool = False) -> Tensor:
        """Logits [T, B, K] of every trial for shared images, or what `Adapted.frozen` gives."""
        self.model.eval()

        def run(chunk: slice) -> Tensor:
            self._bind(chunk, self.rows[chunk])
            return self.model.logits(inputs, shared=True, frozen=frozen)

        return torch.cat([run(chunk) for chunk in self._chunks()]).to(self.rows.dtype)

    def _gradients(
        self, inputs: Tensor, labels: Tensor, seeds: Tensor, frozen: bool
    ) -> tuple[Tensor, Tensor]:
        """Losses [T] and gradients [T, P]."""
        if self.chunk is None:
            self._choose_chunk(inputs, labels, seeds, frozen)
        parts = self._by_chunks(lambda c: self._gradient(c, inputs, labels, seeds, frozen))
        if len(parts) == 1:
            return parts[0]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _gradient(
        self, chunk: slice, inputs: Tensor, labels: Tensor, seeds: Tensor, frozen: bool
    ) -> tuple[Tensor, Tensor]:
        """Losses [C] and gradients [C, P] of the C trials of a chunk, from one pass.

        inputs, labels and seeds are those of all trials.
        """
        own = labels.ndim == 2
        rows = self.rows[chunk].detach().requires_grad_()
        self._bind(chunk, rows)
        self.model.train()
        self.model.noise.seeds = seeds[chunk]
        images = inputs[chunk].flatten(0, 1) if own else inputs
        truth = labels[chunk] if own else labels.expand(len(rows), -1)
        logits = self.model.logits(images, shared=not own, frozen=frozen).to(rows.dtype)
        each = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none")
        losses = each.view(truth.shape).mean(dim=1)
        (gradients,) = torch.autograd.grad(losses, rows, self._ones[chunk])
        return losses.detach(), gradients

    def _choose_chunk(self, inputs: Tensor, labels: Tensor, seeds: Tensor, frozen: bool) -> None:
        """Take as many trials at a time as fit beside what one of them needs."""

        def step(trials: int) -> None:
            self.chunk = trials
            self._gradient(next(self._chunks()), inputs, labels, seeds, frozen)

        most = len(self.members)
        try:
            self.chunk = self.memory.trials_that_fit(step, most)
        except (torch.OutOfMemoryError, MemoryError):
            self.chunk = 1

    def _bind(self, chunk: slice, rows: Tensor) -> None:
        """Put views of some rows in the places of the model's trained tensors."""
        exact = self.layout.views(rows)
        lowered = exact
        if rows.dtype != self.compute_type:
            lowered = self.layout.views(rows.to(self.compute_type))
        # Trials of a chunk agree in what can't be padded, so they agree with its first.
        cut = self.layout.cut(chunk.start) if self.method.unpadded else {}
        for name, places in self._places.items():
            for module, attribute in places:
                tensor = (exact if isinstance(module, nn.LayerNorm) else lowered)[name]
                if self.model.trained.in_place(name):
                    tensor = tensor[0]
                elif name in cut:
                    tensor = tensor[(slice(None), *cut[name])]
                module._parameters[attribute] = tensor  # type: ignore[assignment]
        for column, (module, attribute) in enumerate(self._constants):
            module._buffers[attribute] = self._values[chunk, column]

    def _by_chunks(self, run: Callable[[slice], T]) -> list[T]:
        """Run over all trials, `chunk` at a time; halves the chunk when memory runs out."""
        while True:
            try:
                return [run(chunk) for chunk in self._chunks()]
            except (torch.OutOfMemoryError, MemoryError):
                fused = min(self.chunk or len(self.members), len(self.members))
                if fused == 1 or _capturing(self.device):
                    raise
                self.chunk = -(-fused // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _chunks(self) -> Iterator[slice]:
        """Consecutive trials, at most `chunk`, that agree in what can't be padded."""
        start = 0
        for end in range(1, len(self.members) + 1):
            if (
                end == len(self.members)
                or end - start == self.chunk
                or self._group(self.members[end]) != self._group(self.members[start])
            ):
                yield slice(start, end)
                start = end

    def _group(self, member: Member) -> tuple[float, ...]:
        return tuple(float(member.config.get(name, 0.0)) for name in self.method.unpadded)

    def snapshot(self) -> dict[str, Any]:
        """A copy of what a step changes."""
        state = {"rows": self.rows, **vars(self.optimizer)}
        changing = ("rows", "m", "v", "failed")
        return {"step": self.step, **{name: state[name].clone() for name in changing}}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot, in place: graphs of the tensors stay valid."""
        self.step = snapshot["step"]
        self.rows.copy_(snapshot["rows"])
        for name in ("m", "v", "failed"):
            getattr(self.optimizer, name).copy_(snapshot[name])

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed pack needs, as tensors and plain values."""
        return {
            "ids": [member.id for member in self.members],
            "layout": self.layout.columns(),
            "rows": self.rows,
            "step": self.step,
            **self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; trials that had been dropped are dropped.

        Raises:
            ValueError: rows of another layout, as an earlier version wrote them.
        """
        if state.get("layout") != self.layout.columns():
            raise ValueError("a checkpoint whose rows are laid out otherwise")
        index = {member.id: i for i, member in enumerate(self.members)}
        self.keep([index[trial] for trial in state["ids"]])
        self.rows = state["rows"].to(self.rows)
        self.optimizer.load_state_dict({name: state[name] for name in ("m", "v")})
        self.step = state["step"]


def _capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured, in which nothing can be tried again."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
