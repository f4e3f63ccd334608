"""What the user asked of W&B: in the sweep file, the environment, and the client's own settings."""

import configparser
import contextlib
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from arc_train.errors import InputError

LONGEST_NAME, FORBIDDEN = 128, "/\\#?%:"  # of a project, as W&B's client has it
# What W&B's client makes of its modes.
MODES = {
    **dict.fromkeys(("online", "run", "shared"), "online"),
    **dict.fromkeys(("offline", "dryrun"), "offline"),
    "disabled": "disabled",
}


def resolve_mode(mode: str) -> str:
    """The mode that a sweep file's `wandb.mode` comes to.

    `auto` is online where credentials are, else offline. $WANDB_MODE, $WANDB_DISABLED and
    `wandb offline`, which W&B's users know, go before that, with all values that W&B's client
    knows. Whoever says no there is never sent online, whatever the file says, and a value that
    nobody knows is no yes.
    """
    asked = (os.environ.get("WANDB_MODE") or _saved("mode")).lower()
    if os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false", "no", "off"):
        asked = "disabled"
    wanted = MODES.get(asked, "offline") if asked else None
    if mode == "auto":
        return wanted or ("online" if has_credentials() else "offline")
    return wanted if mode == "online" and wanted else mode


def project_name(asked: str | None, sweep: str) -> str:
    """The project that runs go to: the sweep file's, else $WANDB_PROJECT, else the sweep's name.

    Raises:
        InputError: W&B would refuse the name.
    """
    name = asked or os.environ.get("WANDB_PROJECT") or sweep
    if len(name) > LONGEST_NAME or any(character in name for character in FORBIDDEN):
        where = "wandb.project" if asked else "$WANDB_PROJECT"
        raise InputError(
            f"{where} {name[:LONGEST_NAME]!r} is no name for a W&B project: it may have up to "
            f"{LONGEST_NAME} characters, none of {' '.join(FORBIDDEN)} (the team is wandb.entity)"
        )
    return name


def has_credentials() -> bool:
    """Whether W&B's client would find a key for its server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    base = os.environ.get("WANDB_BASE_URL") or _saved("base_url") or "https://api.wandb.ai"
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(urlsplit(base).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _saved(setting: str) -> str:
    """What `wandb login --host` and `wandb offline` keep in W&B's own settings files."""
    everywhere = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    here = Path(os.environ.get("WANDB_DIR") or ".") / "wandb"
    saved = configparser.ConfigParser(interpolation=None, default_section="")
    with contextlib.suppress(OSError, UnicodeDecodeError, configparser.Error):
        saved.read([everywhere / "settings", here / "settings"])
    return saved.get("default", setting, fallback="")
