"""Dropout's mask is a function of seed, place, row and column, and looks like chance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arc_train.dropout import Noise, SeededDropout, SeededDropPath, SeededNormal

ROWS, COLUMNS = 4096, 64


def mask(seeds: list[int], rate: float, place: int = 1, columns: int = COLUMNS) -> Tensor:
    """What is kept, bool [T, ROWS, columns]."""
    noise = Noise()
    noise.seeds = torch.tensor(seeds, dtype=torch.int32)
    dropout = SeededDropout(rate, noise, place)
    dropout.threshold = dropout.threshold.expand(len(seeds))
    dropout.scale = dropout.scale.expand(len(seeds))
    noise.begin(len(seeds), torch.device("cpu"))
    out = dropout(torch.ones(len(seeds), ROWS, columns))
    kept = out != 0
    assert out[kept].min() == out.max() == pytest.approx(1 / (1 - rate))
    return kept


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=4, unique=True))
def test_a_trial_drops_the_same_alone_in_company_and_at_any_width(seeds: list[int]) -> None:
    together = mask(seeds, 0.3)
    for i, seed in enumerate(seeds):
        assert torch.equal(mask([seed], 0.3, columns=COLUMNS // 2)[0], together[i, :, :32])


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("seed", [0, 1, -(2**31), 123456789])
def test_what_is_dropped_looks_like_chance(seed: int, rate: float) -> None:
    """In all, by column, by row, and jointly for any two columns or neighbouring rows."""
    dropped = (~mask([seed], rate)[0]).double()
    noise = (rate * (1 - rate)) ** 0.5
    assert abs(dropped.mean() - rate) < 4 * noise / (ROWS * COLUMNS) ** 0.5
    by_column = (dropped.mean(dim=0) - rate) / (noise / ROWS**0.5)
    by_row = (dropped.mean(dim=1) - rate) / (noise / COLUMNS**0.5)
    assert by_column.abs().max() < 5
    assert by_row.abs().max() < 6
    assert 0.6 < by_column.std() < 1.4
    assert 0.9 < by_row.std() < 1.1
    pairs = torch.corrcoef(dropped.T) - torch.eye(COLUMNS)
    assert pairs.abs().max() < 6 / ROWS**0.5
    assert 0.8 < pairs.std() * ROWS**0.5 < 1.2
    neighbours = ((dropped[1:] - rate) * (dropped[:-1] - rate)).mean() / noise**2
    assert abs(neighbours) < 4 / (ROWS * COLUMNS) ** 0.5


def test_places_and_steps_draw_apart() -> None:
    first = mask([7], 0.5)
    for other in (mask([7], 0.5, place=2), mask([8], 0.5), mask([7 - 2**31], 0.5)):
        same = (first == other).double().mean()
        assert abs(same - 0.5) < 0.01


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero() -> None:
    noise = Noise()
    x = torch.ones(1, 4, 4)
    assert torch.equal(SeededDropout(0.5, noise, 1).eval()(x), x)
    assert torch.equal(SeededDropout(0.0, noise, 1)(x), x)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), got 1"):
        SeededDropout(1, noise, 1)


@pytest.mark.parametrize("kind", [SeededDropout, SeededDropPath, SeededNormal])
def test_compiled_code_counts_in_memory(kind: type[SeededDropout]) -> None:
    """Numbers that a compiler counts itself may have 64 bits, and their hashes other masks."""
    noise = Noise()
    noise.seeds = torch.tensor([5, 6], dtype=torch.int32)
    dropout = kind(noise, 1) if kind is SeededNormal else kind(0.3, noise, 1)
    x = torch.ones(2, 7, 3)
    compiled: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    def run(x: Tensor) -> Tensor:
        out: Tensor = dropout.sample(x, x) if isinstance(dropout, SeededNormal) else dropout(x)
        return out

    expected = run(x)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(run, backend=keep)(x), expected)
    operations = {str(node.target) for graph in compiled for node in graph.graph.nodes}
    assert any("mul" in operation for operation in operations)
    assert not any("arange" in operation for operation in operations)
