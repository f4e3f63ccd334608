"""Accuracies by hand and by scikit-learn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from arc_train.metrics import accuracy

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(PAIRS)
def test_accuracies_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, guessed = (torch.tensor(part) for part in zip(*pairs, strict=True))
    images = labels.bincount(minlength=5)
    right = torch.stack([labels[guessed == labels].bincount(minlength=5), images])
    theirs = 100 * accuracy_score(labels, guessed)
    assert accuracy(right, images, "accuracy").tolist() == pytest.approx([theirs, 100])
    seen = labels.unique()
    recalls = [(guessed[labels == c] == c).double().mean().item() for c in seen]
    ours = accuracy(right, images, "balanced_accuracy").tolist()
    assert ours == pytest.approx([100 * sum(recalls) / len(seen), 100])
    if len(seen) > 1 and set(guessed.tolist()) <= set(seen.tolist()):  # else it warns
        assert ours[0] == pytest.approx(100 * balanced_accuracy_score(labels, guessed))
