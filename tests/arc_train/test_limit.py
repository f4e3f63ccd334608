"""A search may train on some of a task's images: each class has its share, and a seed its draw."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from arc_train.tasks.views import Split, sample

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def split_of(labels: list[int]) -> Split:
    return Split(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1), torch.tensor(labels))


@given(LABELS, st.integers(1, 80), st.integers(0, 3))
def test_each_class_has_its_share_of_what_is_drawn(
    labels: list[int], limit: int, seed: int
) -> None:
    every = split_of(labels)
    drawn = sample(every, limit, seed)
    count = min(limit, len(labels))
    images = drawn.batch(torch.arange(count)[None])[0, :, 0]
    assert len(drawn) == count == len(set(images.tolist()))
    assert images.tolist() == sorted(images.tolist())
    assert torch.equal(drawn.labels, every.labels[images.long()])
    for label in set(labels):
        share = labels.count(label) * count / len(labels)
        assert abs((drawn.labels == label).sum().item() - share) < 1
    again = sample(split_of(labels), limit, seed).batch(torch.arange(count)[None])
    assert torch.equal(again[0, :, 0], images)


def test_seeds_draw_differently_and_without_a_limit_nothing_is_drawn() -> None:
    every = split_of([0, 1] * 50)
    drawn = {tuple(sample(every, 20, seed).batch(torch.arange(20)[None]).flatten().tolist())
             for seed in range(5)}  # fmt: skip
    assert len(drawn) == 5
    assert sample(every, None, 0) is sample(every, 100, 0) is every
