"""A pack: the trials of one study trained as one batched computation over the frozen backbone.

Each trial is a row of one matrix [T, P]: its trainable tensors, padded with zeros to the widest
rank of the pack and flattened. `torch.func` gives the gradient of all rows at once; clipping,
AdamW and divergence are then row-wise arithmetic. Zero padding is a fixed point of training
(a padded column gets exactly zero gradient), so a trial trains as it would alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from arc_train.adaptation import Adapted, adapt, trainable
from arc_train.seeding import seed_of

BETAS = (0.9, 0.999)
EPS = 1e-8
# Hyperparameters of the optimiser; every other one goes to the method.
OPTIMISER = ("lr", "weight_decay")


@dataclass(frozen=True)
class Member:
    """One trial of a pack: its configuration and the seed of its initialisation and dropout."""

    id: str
    config: Mapping[str, float]
    seed: int


class Pack:
    """The state of some trials in training.

    Args:
        backbone: frozen timm model on the device to train on; not changed.
        method: a name in METHODS.
        members: the trials.
        clip: largest gradient norm of a trial.
        chunk: how many trials are fused at a time; halved when memory runs out.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: str,
        num_classes: int,
        members: Sequence[Member],
        clip: float = 1.0,
        chunk: int = 16,
    ) -> None:
        self.members = list(members)
        self.clip = clip
        self.chunk = chunk
        models = [self._alone(backbone, method, num_classes, member) for member in members]
        states = [trainable(model) for model in models]
        self.shapes = {
            name: tuple(max(sizes) for sizes in zip(*(s[name].shape for s in states), strict=True))
            for name in states[0]
        }
        self.true_shapes = [{name: tuple(p.shape) for name, p in s.items()} for s in states]
        self.device = next(backbone.parameters()).device
        self.rows = torch.stack([self._flatten(state) for state in states]).to(self.device)
        self.m = torch.zeros_like(self.rows)
        self.v = torch.zeros_like(self.rows)
        self.step = 0
        # The widest trial's model serves as the template that all rows are called through.
        self.model = models[
            max(range(len(models)), key=lambda i: sum(map(_size, states[i].values())))
        ]
        self.head_only = all(name.startswith("head.") for name in self.shapes)
        self._dropouts = {
            name: module
            for name, module in self.model.named_modules()
            if hasattr(module, "draws_seed")
        }
        for dropout in self._dropouts.values():
            dropout.draws_seed = False
            dropout.active = any(m.config.get("dropout", 0.1) > 0 for m in members)
        self._rates = torch.tensor(
            [[float(d.rate) for d in _dropouts(model)] for model in models], device=self.device
        )
        _unfuse_attention(self.model, self.device)

    @staticmethod
    def _alone(backbone: nn.Module, method: str, num_classes: int, member: Member) -> Adapted:
        hyper = {k: v for k, v in member.config.items() if k not in OPTIMISER}
        draws = torch.Generator().manual_seed(Pack.init_seed(member))
        return adapt(backbone, method, num_classes, generator=draws, **hyper)

    @staticmethod
    def init_seed(member: Member) -> int:
        """The seed of a trial's initial adapter."""
        return seed_of(member.seed, "init")

    def _flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, shape in self.shapes.items():
            tensor = state[name].detach()
            pad = [p for a, b in zip(shape, tensor.shape, strict=True) for p in (a - b, 0)]
            parts.append(F.pad(tensor, pad[::-1]).flatten())
        return torch.cat(parts)

    def _unflatten(self, row: Tensor) -> dict[str, Tensor]:
        sizes = [_count(shape) for shape in self.shapes.values()]
        parts = row.split(sizes)
        return {n: p.view(s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}

    def state(self, index: int) -> dict[str, Tensor]:
        """The trained tensors of one trial in the adapter format, at its own rank, on the CPU."""
        state = self._unflatten(self.rows[index])
        true = self.true_shapes[index]
        cut = {n: t[tuple(slice(s) for s in true[n])] for n, t in state.items()}
        return {n.removeprefix("backbone."): t.clone().cpu() for n, t in cut.items()}

    def trainable_params(self, index: int) -> tuple[int, int]:
        """Trained parameters of one trial: (with the head, without)."""
        counts = {name: _count(shape) for name, shape in self.true_shapes[index].items()}
        total = sum(counts.values())
        return total, total - counts["head.weight"] - counts["head.bias"]

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all trials but these; the others cost nothing from now on."""
        index = torch.tensor(list(indices), dtype=torch.int64, device=self.device)
        self.rows, self.m, self.v = self.rows[index], self.m[index], self.v[index]
        self._rates = self._rates[index]
        self.members = [self.members[i] for i in indices]
        self.true_shapes = [self.true_shapes[i] for i in indices]

    def train_step(self, inputs: Tensor, labels: Tensor, lr_scale: float) -> Tensor:
        """One AdamW step of every trial -> losses [T] before the step, non-finite where diverged.

        inputs: images [B, 3, S, S] (features [B, D] for a head-only pack) shared by the trials,
            or [T, B, ...] with a batch per trial; labels [B] or [T, B].
        lr_scale: the schedule's factor on each trial's own lr.
        """
        losses, gradients = self._gradients(inputs, labels)
        norms = gradients.norm(dim=1)
        losses = torch.where(torch.isfinite(norms), losses, torch.nan)
        gradients *= (self.clip / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1)
        self.step += 1
        lr = self._column("lr") * lr_scale
        self.rows *= 1 - lr * self._column("weight_decay")
        self.m.lerp_(gradients, 1 - BETAS[0])
        self.v.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
        denominator = (self.v / (1 - BETAS[1] ** self.step)).sqrt_().add_(EPS)
        self.rows.sub_(lr / (1 - BETAS[0] ** self.step) * self.m / denominator)
        return losses

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """Logits [T, B, K] of every trial for shared images [B, 3, S, S] or features [B, D]."""
        self.model.eval()

        def forward(rows: Tensor, seeds: Tensor, rates: Tensor) -> Tensor:
            if len(rows) == 1:
                return self._call(rows[0], seeds[0], rates[0], inputs)[None]
            call = vmap(lambda row, seed, rate: self._call(row, seed, rate, inputs))
            return call(rows, seeds, rates)

        return torch.cat(
            self._by_chunks(lambda c: forward(self.rows[c], self._seeds(c), self._rates[c]))
        )

    def _gradients(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.model.train()

        def loss(row: Tensor, seed: Tensor, rate: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(self._call(row, seed, rate, x), y)

        own_batches = labels.ndim == 2
        step = grad_and_value(loss)
        dim = 0 if own_batches else None
        packed = vmap(step, in_dims=(0, 0, 0, dim, dim))

        def run(c: slice) -> tuple[Tensor, Tensor]:
            x, y = (inputs[c], labels[c]) if own_batches else (inputs, labels)
            rows, seeds, rates = self.rows[c], self._seeds(c), self._rates[c]
            if len(rows) > 1:
                gradient, value = packed(rows, seeds, rates, x, y)
                return value, gradient
            x, y = (x[0], y[0]) if own_batches else (x, y)
            gradient, value = step(rows[0], seeds[0], rates[0], x, y)
            return value[None], gradient[None]

        parts = self._by_chunks(run)
        return torch.cat([p[0] for p in parts]).detach(), torch.cat([p[1] for p in parts])

    def _call(self, row: Tensor, seed: Tensor, rate: Tensor, inputs: Tensor) -> Tensor:
        """Logits of one trial; `seed` [dropouts], `rate` [dropouts]."""
        tensors = self._unflatten(row)
        if self.head_only:
            return F.linear(inputs, tensors["head.weight"], tensors["head.bias"])
        for i, name in enumerate(self._dropouts):
            tensors[f"{name}.seed"], tensors[f"{name}.rate"] = seed[i], rate[i]
        out: Tensor = functional_call(self.model, tensors, (inputs,), tie_weights=False)
        return out

    def _seeds(self, c: slice) -> Tensor:
        """Dropout seeds [T, dropouts] of this step: a function of trial, step and place."""
        seeds = [
            [seed_of(member.seed, "dropout", name, self.step) for name in self._dropouts]
            for member in self.members[c]
        ]
        return torch.tensor(seeds, dtype=torch.int64, device=self.device)

    def _column(self, key: str) -> Tensor:
        values = [[float(member.config.get(key, 0.0))] for member in self.members]
        return torch.tensor(values, device=self.device)

    def _by_chunks(self, run: Callable[[slice], Any]) -> list[Any]:
        """Run over all trials, `chunk` at a time; halves the chunk when memory runs out."""
        while True:
            try:
                starts = range(0, len(self.members), self.chunk)
                return [run(slice(i, i + self.chunk)) for i in starts]
            except (torch.OutOfMemoryError, MemoryError):
                if self.chunk == 1:
                    raise
                self.chunk = -(-self.chunk // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed pack needs, as tensors and plain values."""
        ids = [member.id for member in self.members]
        return {"ids": ids, "rows": self.rows, "m": self.m, "v": self.v, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; trials that had been dropped are dropped."""
        index = {member.id: i for i, member in enumerate(self.members)}
        self.keep([index[trial] for trial in state["ids"]])
        for name in ("rows", "m", "v"):
            setattr(self, name, state[name].to(self.device))
        self.step = state["step"]


def _dropouts(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "draws_seed")]


def _unfuse_attention(model: nn.Module, device: torch.device) -> None:
    """On the CPU, vmap runs the fused attention kernel trial by trial; the plain one batches."""
    if device.type == "cpu":
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # type: ignore[assignment]


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _size(tensor: Tensor) -> int:
    return tensor.numel()
