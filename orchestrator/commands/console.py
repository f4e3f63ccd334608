"""Where commands print: names are shown as they are, whatever rich would read into them."""

from typing import IO

from rich.console import Console


def plain_console(file: IO[str] | None = None) -> Console:
    """A console on a file, by default on stdout: `[x]` is no markup and `:x:` no emoji."""
    return Console(file=file, markup=False, emoji=False)
