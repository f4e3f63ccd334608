"""What a folder's sweep has, brought to W&B wherever and however the sweep ran."""

from arc_train.errors import InputError
from orchestrator.contents import Contents
from orchestrator.leaderboard.board import Board
from orchestrator.store.folder import SweepFolder
from orchestrator.store.lock import locked
from orchestrator.tracking.settings import has_credentials, project_name, resolve_mode
from orchestrator.tracking.tracker import Tracker


def upload(folder: SweepFolder, contents: Contents, board: Board) -> None:
    """Have every result and the leaderboard as W&B runs online.

    What is online already isn't sent again.

    Raises:
        InputError: no credentials, or W&B can't be reached.
    """
    if not has_credentials():
        raise InputError(
            "W&B needs credentials: run `wandb login`, or set WANDB_API_KEY (and "
            "WANDB_BASE_URL for a server of your own)"
        )
    if resolve_mode("online") != "online":
        raise InputError(
            "WANDB_MODE, WANDB_DISABLED or `wandb offline` says that nothing is to be sent; undo "
            "that (`wandb online`) and run this again"
        )
    with locked(folder):
        tracker = tracker_of(contents, folder, "online")
        for result in contents.results.values():
            tracker.log(result)
        tracker.board(board)
        tracker.close()
    if tracker.problem:
        raise InputError(tracker.problem)


def tracker_of(contents: Contents, folder: SweepFolder, mode: str) -> Tracker:
    """A writer of the sweep's runs.

    Raises:
        InputError: W&B would refuse the project's name.
    """
    project = project_name(contents.wandb.project, contents.name)
    entity = contents.wandb.entity
    return Tracker(folder.path, contents.name, mode, project, entity, contents.groups)
