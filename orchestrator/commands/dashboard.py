"""`arc-sweep dashboard`: a sweep's workspace and report in W&B, or their specifications."""

import argparse
import json

from orchestrator.commands.arguments import add_folder
from orchestrator.commands.exit_codes import DONE

EXAMPLE = "results/pets"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    """Save workspace and report, online where there are credentials; returns the exit code."""
    from orchestrator import contents, leaderboard
    from orchestrator.store.folder import SweepFolder
    from orchestrator.tracking import dashboard
    from orchestrator.tracking.settings import has_credentials, project_name, resolve_mode
    from orchestrator.tracking.upload import upload

    folder = SweepFolder(options.folder)
    found = contents.read(folder)
    source = leaderboard.source(folder, found)
    board = leaderboard.board_of(source)
    leaderboard.write(folder, source, board)
    place = project_name(found.wandb.project, found.name)
    if has_credentials() and resolve_mode("online") == "online":
        upload(folder, found, board)  # the panels show its runs
        for what, url in dashboard.save(folder.path, board, found.wandb.entity, place).items():
            print(f"{what:10} {url}")
        return DONE
    for what, content in dashboard.specification(board).items():
        path = folder.path / f"wandb_{what}.json"
        folder.write(path, json.dumps(content, indent=1).encode())
        print(f"{what:10} {path}")
    print(
        f"No W&B credentials (`wandb login`, or WANDB_API_KEY): with them this command sends the "
        f"sweep's runs to project {place!r} and creates or updates these two there."
    )
    return DONE
