"""Pixels become eight bits by one written rule, or are refused with their place, type and range."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from arc_train.errors import InputError
from arc_train.tasks.catalog import catalog
from arc_train.tasks.check import check
from arc_train.tasks.images import from_array, is_turned, read_image, to_rgb

GREY = arrays(np.uint8, (4, 5))


def stored(array: np.ndarray, ending: str) -> Image.Image:
    """An image written to a file and read back, as a task reads it."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, ending)
    image, _ = read_image(file.getvalue(), "list:1")
    return image


@given(GREY)
def test_the_same_picture_is_the_same_in_8_and_16_bits_and_in_floats(grey: np.ndarray) -> None:
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    for array, ending in (
        (grey, "PNG"),
        (grey.astype(np.uint16) * 257, "PNG"),
        (grey.astype(np.uint16) * 257, "TIFF"),
        ((grey / 255).astype(np.float32), "TIFF"),
    ):
        assert np.array_equal(np.asarray(to_rgb(stored(array, ending), "list:1")), expected)


@given(arrays(np.uint8, (4, 5, 3)))
def test_arrays_of_any_type_and_order_give_the_same_image(colour: np.ndarray) -> None:
    for array in (
        colour,
        colour.astype(np.int32),
        (colour / 255).astype(np.float32),
        np.moveaxis(colour, -1, 0),
        colour[None],
        colour.tolist(),
    ):
        assert np.array_equal(np.asarray(from_array(array, "row 1")), colour)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((4, 4, 3), 65535), "int64 from 65535 to 65535"),
        (np.full((4, 4, 3), -1), "int64 from -1 to -1"),
        (np.full((4, 4, 3), 1.5), "float64 from 1.5 to 1.5"),
        (np.full((4, 4, 3), np.nan), "float64 from nan to nan"),
        (np.zeros((5, 5, 7)), "shape [5, 5, 7]"),
        (np.zeros((0,)), "shape [0]"),
        ([["a"]], "row 1"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_type_and_range(array: object, told: str) -> None:
    with pytest.raises(InputError, match=r"^row 1: ") as error:
        from_array(array, "row 1")
    assert told in str(error.value)


def test_a_float_image_out_of_range_is_refused_with_its_place() -> None:
    image = Image.fromarray(np.full((4, 4), 200, dtype=np.float32))
    with pytest.raises(InputError, match=r"^list:7: pixels of type float32 from 200 to 200"):
        to_rgb(image, "list:7")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """vtab/dtd with one image a class, in the VTAB-1k layout."""
    draws = np.random.default_rng(0)
    for split, rounds in (("train800", 2), ("val200", 1), ("test", 1)):
        lines = []
        for i in range(47 * rounds):
            path = tmp_path / "data/dtd/images" / split / f"{i:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
            lines.append(f"images/{split}/{path.name} {i % 47}\n")
        (tmp_path / f"data/dtd/{split}.txt").write_text("".join(lines), encoding="utf-8-sig")
    return tmp_path / "data"


def test_links_of_the_user_are_followed(folder: Path, tmp_path: Path) -> None:
    task = catalog()["vtab/dtd"]
    plain = check(task, folder)
    assert plain.faults == []
    (folder / "dtd/images").rename(tmp_path / "elsewhere")
    (folder / "dtd/images").symlink_to(tmp_path / "elsewhere")
    assert check(task, folder) == plain
    (folder / "dtd/train800.txt").write_text("../../elsewhere/test/000000.png 0\n")
    assert "leaves the task's folder" in check(task, folder).faults[0]


def test_check_names_images_of_one_colour_and_pixels_that_cannot_be(folder: Path) -> None:
    first, second = (folder / f"dtd/images/test/00000{i}" for i in range(2))
    Image.new("RGB", (32, 32), "white").save(f"{first}.png")
    Image.fromarray(np.full((32, 32), 300, dtype=np.float32)).save(f"{second}.png", "TIFF")
    report = check(catalog()["vtab/dtd"], folder)
    assert any("1 images have one flat colour" in fact for fact in report.facts)
    (fault,) = report.faults
    assert "pixels of type float32 from 300 to 300" in fault
    assert "test.txt:2" in fault


@example([(17, 30)])  # a tag that Pillow reads and can't write
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 255)), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about EXIF
def test_damaged_exif_never_stops_a_reader(damage: list[tuple[int, int]]) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photograph"
    file = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(file, "JPEG", exif=exif)
    content = bytearray(file.getvalue())
    start = content.index(b"Exif")
    for place, value in damage:
        content[start + place] = value
    with contextlib.suppress(InputError):
        image, _ = read_image(bytes(content), "here", upright=True)
        assert image.size in ((16, 12), (12, 16))
        is_turned(bytes(content))
