"""Whatever happens to a sealed file's bytes, it is opened as it was sealed or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_train.digest import Damaged, seal, unseal


@given(st.binary(max_size=200))
def test_what_was_sealed_comes_back(content: bytes) -> None:
    assert unseal(seal(content)) == content


@given(st.binary(max_size=200), st.data())
def test_a_changed_a_shortened_and_an_extended_file_are_damaged(
    content: bytes, data: st.DataObject
) -> None:
    sealed = seal(content)
    place = data.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[place] ^= data.draw(st.integers(1, 255))
    longer = sealed + data.draw(st.binary(min_size=1, max_size=20))
    for damaged in (bytes(flipped), sealed[:place], longer, content):
        with pytest.raises(Damaged):
            unseal(damaged)
