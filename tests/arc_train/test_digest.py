"""Whatever happens to a stamped file's bytes, its content is read as it was or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_train.digest import Damaged, stamp, verify


@given(st.binary(max_size=200))
def test_what_was_stamped_comes_back(content: bytes) -> None:
    assert verify(stamp(content)) == content


@given(st.binary(max_size=200), st.data())
def test_a_changed_a_shortened_and_an_extended_file_are_damaged(
    content: bytes, data: st.DataObject
) -> None:
    stamped = stamp(content)
    place = data.draw(st.integers(0, len(stamped) - 1))
    flipped = bytearray(stamped)
    flipped[place] ^= data.draw(st.integers(1, 255))
    longer = stamped + data.draw(st.binary(min_size=1, max_size=20))
    for damaged in (bytes(flipped), stamped[:place], longer, content):
        with pytest.raises(Damaged):
            verify(damaged)
