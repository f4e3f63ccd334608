"""A final's adapter: any flipped bit is noticed, and files without a digest stay readable."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from arc_train.errors import InputError
from orchestrator.store.adapter import FORMAT, adapter_bytes, read_adapter

TENSORS = {"head.weight": torch.eye(3), "head.bias": torch.arange(3.0)}
STUDY = {"backbone": "b", "method": "linear", "task": "demo/digits"}


def test_no_flipped_bit_and_no_cut_gives_other_weights(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    content = adapter_bytes(TENSORS, STUDY)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError, match=r"is damaged .*trains this final again"):
            read_adapter(path)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="is damaged"):
            read_adapter(path)


def test_the_file_is_plain_safetensors_and_older_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    path.write_bytes(adapter_bytes(TENSORS, STUDY))
    for tensors in (load_file(path), read_adapter(path)):
        assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    save_file(TENSORS, path, {"format": FORMAT, **STUDY})
    assert read_adapter(path).keys() == TENSORS.keys()
