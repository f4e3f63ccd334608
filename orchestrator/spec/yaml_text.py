"""YAML as users write it, read so that nothing in it is passed over: PyYAML lets the last of two
equal keys win, and raises what its constructors raise."""

from collections.abc import Hashable
from typing import Any

import yaml

from arc_train.errors import InputError


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    raise InputError(
                        f"key {key.value!r} stands twice, at line {lines[key.value]} and at line "
                        f"{line}; keep one of them"
                    )
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """The plain data in a YAML text.

    Raises:
        InputError: it isn't YAML, has a key twice, or a value that can't be; begins with `where`.
    """
    try:
        return yaml.load(text, _Loader)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise InputError(f"{where} is not valid YAML: it is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # a date that doesn't exist, a number that is none
        raise InputError(f"{where} has a value that can't be: {error}") from error
