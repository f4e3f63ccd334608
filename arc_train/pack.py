"""A pack: the trials of one study trained as one batched computation over the frozen backbone.

Each trial is a row of one matrix [T, P]: its trainable tensors, padded with zeros to the widest
rank of the pack and flattened. `torch.func` gives the gradient of all rows at once; clipping,
AdamW and divergence are then row-wise arithmetic. Zero padding is a fixed point of training
(a padded column gets exactly zero gradient), so a trial trains as it would alone.

Numerics: float32 on a CPU; on a GPU the model runs in bfloat16 where autocast finds it safe, while
trained tensors, gradients and the optimiser's state stay in float32.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from arc_train.adaptation import Adapted, adapt, trainable
from arc_train.methods import METHODS
from arc_train.seeding import seed_of

BETAS = (0.9, 0.999)
EPS = 1e-8
# Hyperparameters of the optimiser; every other one goes to the method.
OPTIMISER = ("lr", "weight_decay")


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
        chunk: how many trials are fused at a time; halved when memory runs out.
        autocast: whether the model runs in bfloat16; by default on a GPU only.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: str,
        num_classes: int,
        members: Sequence[Member],
        clip: float = 1.0,
        chunk: int = 16,
        autocast: bool | None = None,
    ) -> None:
        self.method = METHODS[method]
        self.members = sorted(members, key=self._group)
        self.clip = clip
        self.chunk = chunk
        models = [self._alone(backbone, method, num_classes, member) for member in self.members]
        states = [trainable(model) for model in models]
        self.shapes = {
            name: tuple(max(sizes) for sizes in zip(*(s[name].shape for s in states), strict=True))
            for name in states[0]
        }
        self.true_shapes = [{name: tuple(p.shape) for name, p in s.items()} for s in states]
        self.device = next(backbone.parameters()).device
        self.rows = torch.stack([self._flatten(state) for state in states]).to(self.device)
        self.autocast = self.device.type == "cuda" if autocast is None else autocast
        self.m = torch.zeros_like(self.rows)
        self.v = torch.zeros_like(self.rows)
        self.step = 0
        # The widest trial's model serves as the template that all rows are called through.
        self.model = models[
            max(range(len(models)), key=lambda i: sum(map(_size, states[i].values())))
        ]
        # Nothing trained below the pooled features: they never change.
        self.head_only = all(name.startswith(("head.", "mlp.")) for name in self.shapes)
        decayed = [
            torch.full((_count(shape),), float(self.method.decays_vectors or len(shape) > 1))
            for shape in self.shapes.values()
        ]
        self._decayed = torch.cat(decayed).to(self.device)
        # Scalars that a method's modules hold (dropout rates, scales) differ from trial to trial.
        of_backbone = {id(buffer) for buffer in backbone.buffers()}
        own = {n: b for n, b in self.model.named_buffers() if id(b) not in of_backbone}
        self._constants = [name for name, buffer in own.items() if buffer.is_floating_point()]
        self._dropouts = [name.removesuffix(".seed") for name in own if name.endswith(".seed")]
        for name in self._dropouts:
            dropout = self.model.get_submodule(name)
            dropout.draws_seed = False  # type: ignore[assignment]
            dropout.active = any(float(m.get_submodule(name).rate) > 0 for m in models)  # type: ignore[assignment, arg-type]
        self._values = torch.tensor(
            [[float(model.get_buffer(name)) for name in self._constants] for model in models],
            device=self.device,
        )
        _unfuse_attention(self.model, self.device)
        if self.autocast:
            _normalise_in_float32(self.model)

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
        self._values = self._values[index]
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
        self.rows *= 1 - lr * self._column("weight_decay") * self._decayed
        self.m.lerp_(gradients, 1 - BETAS[0])
        self.v.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
        denominator = (self.v / (1 - BETAS[1] ** self.step)).sqrt_().add_(EPS)
        self.rows.sub_(lr / (1 - BETAS[0] ** self.step) * self.m / denominator)
        return losses

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """Logits [T, B, K] of every trial for shared images [B, 3, S, S] or features [B, D]."""
        self.model.eval()

        def run(c: slice) -> Tensor:
            call = self._caller(c)
            rows, values, seeds = self.rows[c], self._values[c], self._seeds(c)
            if len(rows) == 1:
                return call(rows[0], values[0], seeds[0], inputs)[None]
            logits: Tensor = vmap(call, in_dims=(0, 0, 0, None))(rows, values, seeds, inputs)
            return logits

        return torch.cat(self._by_chunks(run))

    def _gradients(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [T] and gradients [T, P]."""
        self.model.train()
        own_batches = labels.ndim == 2
        dim = 0 if own_batches else None

        def run(c: slice) -> tuple[Tensor, Tensor]:
            call = self._caller(c)

            def loss(row: Tensor, values: Tensor, seeds: Tensor, x: Tensor, y: Tensor) -> Tensor:
                return F.cross_entropy(call(row, values, seeds, x), y)

            step = grad_and_value(loss)
            x, y = (inputs[c], labels[c]) if own_batches else (inputs, labels)
            rows, values, seeds = self.rows[c], self._values[c], self._seeds(c)
            if len(rows) > 1:
                gradient, value = vmap(step, in_dims=(0, 0, 0, dim, dim))(rows, values, seeds, x, y)
                return value, gradient
            x, y = (x[0], y[0]) if own_batches else (x, y)
            gradient, value = step(rows[0], values[0], seeds[0], x, y)
            return value[None], gradient[None]

        parts = self._by_chunks(run)
        return torch.cat([p[0] for p in parts]).detach(), torch.cat([p[1] for p in parts])

    def _caller(self, c: slice) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """(row [P], constants [C], dropout seeds [S], inputs) -> logits, for trials of a chunk."""
        # Trials of a chunk agree in what can't be padded, so they agree with its first.
        cut = self.true_shapes[c.start] if self.method.unpadded else {}

        def call(row: Tensor, values: Tensor, seeds: Tensor, inputs: Tensor) -> Tensor:
            tensors = self._unflatten(row)
            for name, shape in cut.items():
                tensors[name] = tensors[name][tuple(slice(size) for size in shape)]
            tensors |= {name: values[i] for i, name in enumerate(self._constants)}
            tensors |= {f"{name}.seed": seeds[i] for i, name in enumerate(self._dropouts)}
            arguments = (inputs, self.head_only)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                logits: Tensor = functional_call(self.model, tensors, arguments, tie_weights=False)
            return logits.to(row.dtype)

        return call

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
                return [run(c) for c in self._chunks()]
            except (torch.OutOfMemoryError, MemoryError):
                if self.chunk == 1:
                    raise
                self.chunk = -(-self.chunk // 2)
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


def _unfuse_attention(model: nn.Module, device: torch.device) -> None:
    """On the CPU, vmap runs the fused attention kernel trial by trial; the plain one batches."""
    if device.type == "cpu":
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # type: ignore[assignment]


def _normalise_in_float32(model: nn.Module) -> None:
    """Norms get float32 on every device: autocast lifts them on a GPU, but not on a CPU."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _size(tensor: Tensor) -> int:
    return tensor.numel()
