"""Where commands print: names are shown as they are, whatever rich would read into them."""

import sys
from typing import IO

from rich.console import Console


def plain_console(file: IO[str] | None = None) -> Console:
    """A console on a file, by default on stdout: `[x]` is no markup and `:x:` no emoji."""
    # As it is now: while Ray runs, stdout leads elsewhere, and our lines belong here.
    return Console(file=file or sys.stdout, markup=False, emoji=False)
