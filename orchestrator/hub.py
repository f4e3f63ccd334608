"""Sends a folder to a repository of the Hugging Face hub; nothing else here sends anything."""

import re
from collections.abc import Iterable
from pathlib import Path

from arc_train.errors import InputError


def check_can_push(repository: str) -> None:
    """Refuse what is known to fail before anything is exported.

    Raises:
        InputError: it is no USER/NAME, or there is no token.
    """
    from huggingface_hub import get_token

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(
            f"--push {repository!r}: expected USER/NAME, as the hub names repositories"
        )
    if get_token() is None:
        raise InputError("--push needs a token that may write: hf auth login, or HF_TOKEN")


def push(folder: Path, files: Iterable[str], repository: str, private: bool) -> str:
    """Upload these files of a folder in one commit; returns the repository's address.

    The repository is made if it doesn't exist. The token is the hub client's own: HF_TOKEN, or
    that of `hf auth login`.

    Raises:
        InputError: the token may not write there, or the hub can't be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    network = (OSError, ValueError, *HfHubHTTPError.__bases__)
    try:
        api = HfApi()
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="Exported by arc-sweep",
        )
    except tuple(kind for kind in network if issubclass(kind, Exception)) as error:
        raise InputError(f"--push {repository}: {_reason(error)}") from error
    return str(url)


def _reason(error: Exception) -> str:
    """Why, on one line: the hub's own words where it has some."""
    said = getattr(error, "server_message", None) or str(error)
    return " ".join(said.split())[:300] or type(error).__name__
