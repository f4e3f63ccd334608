"""Which outputs of timm's fused qkv layer a method adapts."""

from arc_train.errors import InputError

# target -> name of a part -> which of the layer's 3 times D outputs, in multiples of D.
PARTS = {"qv": {"q": (0, 1), "v": (2, 3)}, "qkv": {"qkv": (0, 3)}}
TARGETS = tuple(PARTS)


def outputs(target: str, width: int) -> dict[str, slice]:
    """The parts of a target, each with its outputs of a layer of 3 * width.

    Raises:
        InputError: no such target.
    """
    if target not in PARTS:
        raise InputError(f"no target {target!r} in a fused qkv layer; known: {', '.join(PARTS)}")
    return {name: slice(a * width, b * width) for name, (a, b) in PARTS[target].items()}
