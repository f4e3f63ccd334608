"""What feeds a run: the same batches wherever the images lie, and nothing computed twice."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arc_train import feed
from arc_train.feed import Feed, HeldCrops, Images
from arc_train.tasks.views import Split

CPU = torch.device("cpu")
PREPARE = Images((0.5,) * 3, (0.5,) * 3, CPU)


def whole(count: int) -> Split:
    draws = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 8, 8, 3), generator=draws)
    return Split(images.to(torch.uint8), torch.arange(count) % 3)


def ragged(shapes: list[tuple[int, int]]) -> Split:
    draws = np.random.default_rng(0)
    images = [draws.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in shapes]
    return Split(images, torch.zeros(len(images), dtype=torch.int64), 8)


SHAPES = st.lists(st.tuples(st.integers(8, 13), st.integers(8, 13)), min_size=1, max_size=5)


@given(SHAPES, st.randoms(use_true_random=False))
def test_crops_by_gathering_pixels_are_those_cut_on_the_host(
    shapes: list[tuple[int, int]], random: object
) -> None:
    split = ragged(shapes)
    held = HeldCrops(split, CPU)
    index = torch.randint(0, len(shapes), (2, 3))
    places = torch.rand(2, 3, 3)
    assert torch.equal(held(index, places), split.batch(index, places))
    assert torch.equal(held(index, None), split.batch(index, None))


@pytest.mark.parametrize("split", [whole(7), ragged([(8, 9), (10, 8)])])
def test_a_batch_is_gathered_in_a_place_that_is_given(split: Split) -> None:
    index, out = torch.tensor([[1, 0, 1]]), torch.zeros(1, 3, 8, 8, 3, dtype=torch.uint8)
    given = split.batch(index, None, out)
    assert given.data_ptr() == out.data_ptr()
    assert torch.equal(out, split.batch(index))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.booleans())
def test_some_images_of_a_split_are_shown_as_in_all_of_it(taken: list[int], crops: bool) -> None:
    split = ragged([(8 + i, 12 - i // 2) for i in range(7)]) if crops else whole(7)
    some, index = split.take(torch.tensor(taken)), torch.tensor(taken)
    every = torch.arange(len(taken))
    assert torch.equal(some.batch(every), split.batch(index))
    assert torch.equal(some.labels, split.labels[index])
    again = some.take(every.flip(0))
    assert torch.equal(again.batch(every), split.batch(index.flip(0)))
    place = torch.rand(len(taken), 3)
    assert torch.equal(some.batch(every, place), split.batch(index, place))
    held = feed._held(some, CPU)
    places = place[None] if crops else None
    assert torch.equal(held(every[None], places)[0], some.batch(every, place))
    assert some.nbytes <= len(taken) * max(image.nbytes for image in split.images)


@pytest.mark.parametrize("orders", [[5, 5], [5, 6]])
def test_an_epoch_shows_each_image_once_to_each_trial(orders: list[int]) -> None:
    split = whole(20)
    shown: list[list[Tensor]] = [[], []]
    for batch in Feed(split, PREPARE, 8, None).epoch(3, orders):
        shared = batch.labels.ndim == 1
        assert shared == (orders[0] == orders[1])
        for trial in range(2):
            shown[trial] += list(batch.inputs if shared else batch.inputs[trial])
    every = {tuple(image.flatten().tolist()) for image in PREPARE(split.images)}
    for images in shown:
        assert len(images) == 20
        assert {tuple(image.flatten().tolist()) for image in images} == every


def test_what_never_changes_is_computed_once_and_only_while_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def below(images: Tensor) -> Tensor:
        nonlocal calls
        calls += len(images)
        return images.flatten(1)[:, :4]

    def shown(split: Split) -> Tensor:
        source = Feed(split, PREPARE, 8, below)
        return torch.cat([b.inputs for epoch in range(3) for b in source.epoch(epoch, [1])])

    kept = shown(whole(20))
    assert calls == 20 + 1  # one image tells how much room all will take
    calls = 0
    monkeypatch.setattr(feed, "HELD", 20 * 4 * 4 - 1)
    assert torch.equal(shown(whole(20)), kept)
    assert calls == 3 * 20 + 1


def test_crops_differ_from_epoch_to_epoch_so_that_nothing_of_them_is_kept() -> None:
    source = Feed(ragged([(12, 12)] * 6), PREPARE, 6, lambda images: images.flatten(1))
    first, second = (next(iter(source.epoch(epoch, [1]))).inputs for epoch in range(2))
    assert not torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)
