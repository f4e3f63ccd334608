"""How a pack's training steps run: eagerly, with compiled blocks, or as a replayed CUDA graph.

A GPU with few trials waits for launches, and a step that is replayed as one graph has a single
launch. With many trials it waits for memory, and blocks that are compiled read and write less.
Neither is trusted: the first step of each kind and shape runs twice from the same state, and where
it disagrees with an eager step, or fails, such steps run eagerly from then on.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from arc_train.pack import Pack
from arc_train.structure import blocks

# The last is for benchmarks, until it has been timed on a card.
Execution = Literal["eager", "compiled", "graph", "compiled graph"]
# Trials up to which launches cost more than the arithmetic (measured: benchmarks/results.md).
FEW = 4
WARM_UP = 3
# Kinds of blocks and shapes that one process may compile.
RECOMPILE_LIMIT = 256
# What is added to the trained tensors for a check, in standard deviations of 1.
DISTURBANCE = 0.02
# Relative difference of gradients, by whether rounding is that of bfloat16.
TOLERANCE = {torch.bfloat16: 5e-2, torch.float32: 1e-3, torch.float64: 1e-9}
# A tensor whose gradient is a smaller part of all than this is compared as if it were so large.
FLOOR = 0.1

Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Stepper:
    """Runs a pack's steps.

    wanted: how; by default a graph for few trials and compiled blocks for many on a GPU, and
        eagerly on a CPU, where compiling costs more than it gains (benchmarks/packs.py).
    used: how steps have run, for the results: the last kind that was chosen.
    problem: why the last kind that was given up was, or None. The others stay open: a pack whose
        blocks can't be compiled is captured once few trials are left.
    """

    def __init__(self, pack: Pack, frozen: bool, wanted: Execution | None = None) -> None:
        self.pack = pack
        self.frozen = frozen
        self.wanted = wanted
        self.used: Execution = "eager"
        self.problem: str | None = None
        self._given_up: set[Execution] = set()
        self._steps: dict[tuple[object, ...], Step] = {}
        self._rows: Tensor | None = None
        self._batch_size = 0  # of an epoch's first step; its last may be smaller
        self._pool: Any = None

    def __call__(self, inputs: Tensor, labels: Tensor, clock: Tensor, seeds: Tensor) -> Tensor:
        """As `Pack.train_step`."""
        if self.pack.rows is not self._rows:  # they moved: graphs of the old ones are of no use
            self._steps.clear()
            self._pool = None  # a pool whose graphs are all gone can't be captured into again
            self._rows = self.pack.rows
        self._batch_size = max(self._batch_size, labels.shape[-1])
        step = self._steps.get(self._key(inputs, labels))
        if step is None:
            step = self._checked(inputs, labels, clock, seeds)
            # Only now: the first step of all chooses the chunk.
            self._steps[self._key(inputs, labels)] = step
        return step(inputs, labels, clock, seeds)

    def _key(self, inputs: Tensor, labels: Tensor) -> tuple[object, ...]:
        return inputs.shape, labels.shape, self.pack.chunk

    def _kind(self, labels: Tensor) -> Execution:
        """How the steps of a batch run."""
        kind = self._best(labels)
        return "eager" if kind in self._given_up else kind

    def _best(self, labels: Tensor) -> Execution:
        if self.pack.method.in_place or self.frozen:
            return "eager"
        if self.wanted is not None:
            return self.wanted
        if self.pack.device.type != "cuda":
            return "eager"
        if len(self.pack.members) <= FEW:
            return "graph"
        # One step an epoch isn't worth code of its own.
        return "compiled" if labels.shape[-1] == self._batch_size else "eager"

    def _checked(self, *batch: Tensor) -> Step:
        """The step to use from now on, which agreed with an eager one from the same state."""
        labels = batch[1]
        kind = self._kind(labels)
        if kind == "eager":
            if labels.shape[-1] == self._batch_size:
                self.used = kind
            return self._eager
        before = self.pack.snapshot()
        self._disturb()
        start = self.pack.snapshot()
        expected = self._eager(*batch), self.pack.optimizer.m.clone()
        self.pack.restore(start)
        try:
            run = self._compiled() if "compiled" in kind else self._eager
            step = self._graph(run, *batch) if "graph" in kind else run
            self.pack.restore(start)
            found = step(*batch), self.pack.optimizer.m
            problem = self._difference(expected, found)
        except Exception as error:  # a compiler or a driver fails in ways of its own
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self.pack.restore(before)
        if problem is None:
            self.used = kind
            return step
        self.used, self.problem = "eager", f"{kind}: {problem}"
        self._given_up.add(kind)
        return self._eager

    def _disturb(self) -> None:
        """Add a little to all that is trained: through a head of zeros no gradient would pass."""
        rows = self.pack.rows
        draws = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
        rows.add_(draws.to(rows), alpha=DISTURBANCE)

    def _difference(
        self, expected: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]
    ) -> str | None:
        """What tells the steps apart, if it is more than rounding."""
        tolerance = TOLERANCE[self.pack.compute_type]
        views = self.pack.layout.views
        right, got = views(expected[1]), views(found[1])
        floor = FLOOR * _norm(expected[1], expected[1])
        compared = [("losses", expected[0], found[0], 0.0)]
        compared += [(f"gradients of {name}", right[name], got[name], floor) for name in right]
        for what, exact, given, smallest in compared:
            apart, scale = _norm(given - exact, exact), max(smallest, _norm(exact, exact))
            if not apart <= tolerance * scale:
                return f"{what} differ from an eager step's by {apart / scale:.1e}"
        return None

    def _eager(self, inputs: Tensor, labels: Tensor, clock: Tensor, seeds: Tensor) -> Tensor:
        return self.pack.train_step(inputs, labels, clock, seeds, self.frozen)

    def _compiled(self) -> Step:
        """One block is compiled, and its code serves all blocks that are alike.

        Evaluations, whose shapes are others, run the blocks as they are.
        """
        from torch._dynamo import config

        # A worker's packs differ in shapes, and a Swin's blocks do: each gets code of its own.
        # Beyond the limit dynamo would go on eagerly without a word.
        config.recompile_limit = RECOMPILE_LIMIT
        config.fail_on_recompile_limit_hit = True
        compiled = []
        for block in blocks(self.pack.model.backbone):
            block.compile(dynamic=False)
            compiled.append((block, block._compiled_call_impl))
            block._compiled_call_impl = None

        def step(*batch: Tensor) -> Tensor:
            for block, call in compiled:
                block._compiled_call_impl = call
            try:
                return self._eager(*batch)
            finally:
                for block, _ in compiled:
                    block._compiled_call_impl = None

        return step

    def _graph(self, run: Step, *batch: Tensor) -> Step:
        """The whole step, captured on static buffers."""
        static = [tensor.clone() for tensor in batch]
        new_stream: Callable[[], torch.cuda.Stream] = torch.cuda.Stream
        side = new_stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run(*static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            losses = run(*static)

        def replay(*batch: Tensor) -> Tensor:
            for buffer, tensor in zip(static, batch, strict=True):
                buffer.copy_(tensor, non_blocking=True)
            graph.replay()
            self.pack.step += 1
            return losses.clone()

        return replay


def _norm(values: Tensor, expected: Tensor) -> float:
    """The norm of those values where what was expected is finite: other trials diverge at once."""
    return float(torch.where(torch.isfinite(expected), values, 0.0).norm())
