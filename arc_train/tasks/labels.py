"""Labels that structured tasks derive from what their data sets record.

Formulas and thresholds are those of google-research/task_adaptation, on which VTAB-1k stands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

CLEVR_DEPTHS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
KITTI_METRES = (-100.0, 8.0, 20.0, 999.0)
KITTI_VEHICLES = 3  # object types below: car, van, truck
NO_VEHICLE = 1000.0


def clevr_count(objects: Any) -> int:
    """Number of objects in the scene, 3 to 10, as class 0 to 7."""
    return len(list(_records(objects))) - 3


def clevr_distance(objects: Any) -> int:
    """Bin of the smallest depth (third pixel coordinate) of an object."""
    return _bin(min(record["pixel_coords"][2] for record in _records(objects)), CLEVR_DEPTHS)


def kitti_distance(objects: Any) -> int:
    """Bin of the distance z, in metres, of the closest vehicle; 3 where there is none."""
    depths = [r["location"][2] for r in _records(objects) if r["type"] < KITTI_VEHICLES]
    return _bin(min(depths, default=NO_VEHICLE), KITTI_METRES)


def dsprites_location(x: int) -> int:
    """One of 32 positions as one of 16 classes."""
    return int(x // 2)


def dsprites_orientation(step: int) -> int:
    """One of 40 orientations as one of 16 classes, of three and two by turns."""
    return int(step / 2.5)


DERIVATIONS: dict[str, Callable[[Any], int]] = {
    function.__name__: function
    for function in (
        clevr_count,
        clevr_distance,
        kitti_distance,
        dsprites_location,
        dsprites_orientation,
    )
}


def _bin(value: float, thresholds: Sequence[float]) -> int:
    """The largest i with thresholds[i] < value; -1 where there is none."""
    return sum(threshold < value for threshold in thresholds) - 1


def _records(objects: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of an image, stored one by one or as one list for each of their properties."""
    if isinstance(objects, Mapping):
        names = list(objects)
        for values in zip(*(objects[name] for name in names), strict=True):
            yield dict(zip(names, values, strict=True))
    else:
        yield from objects
