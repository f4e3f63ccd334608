"""Fuzzing of the text readers, guided by coverage: `python -m tests.guided_fuzz [RUNS [KIND]]`.

Where tests/test_fuzz.py damages good files blindly, atheris keeps each input that reached a new
line and goes on from there. A process for each kind, since a fuzzer ends its own.
"""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["arc_train", "orchestrator", "yaml"]):
    from tests.test_fuzz import KINDS

from arc_train.errors import InputError

PARSERS = ("sweep file", "override", "list", "table of images", "table of trials", "journal")


def fuzz(kind: str, runs: str) -> None:
    """Read inputs of one kind; ends the process, with a traceback where one isn't refused."""
    name, make, read = KINDS[kind]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        corpus = Path("corpus")
        corpus.mkdir()
        (corpus / "good").write_bytes(make())
        path = Path(scratch) / name

        def tried(content: bytes) -> None:
            path.write_bytes(content)
            with contextlib.suppress(InputError):
                read(path)

        atheris.Setup([kind, f"-runs={runs}", "-max_len=4096", "-verbosity=0", "corpus"], tried)
        atheris.Fuzz()


def main(runs: str = "2000", kind: str | None = None) -> int:
    """Fuzz one kind, or each in a process of its own; returns the exit code."""
    if kind:
        fuzz(kind, runs)
    module = [sys.executable, "-m", "tests.guided_fuzz", runs]
    failed = [kind for kind in PARSERS if subprocess.run([*module, kind], check=False).returncode]
    print(f"guided by coverage: {len(PARSERS)} kinds, {runs} inputs each, failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
