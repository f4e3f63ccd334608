"""The arguments that several commands share."""

import argparse


def add_spec(parser: argparse.ArgumentParser) -> None:
    """A sweep's file, and overrides of its keys."""
    parser.add_argument("spec", metavar="SPEC", help="the sweep's YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of the file, e.g. --set search.trials=4 (repeatable)",
    )


def add_folder(parser: argparse.ArgumentParser) -> None:
    """A sweep's folder."""
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder")


def add_json(parser: argparse.ArgumentParser, instead_of: str = "a table") -> None:
    """Output for programs."""
    parser.add_argument("--json", action="store_true", help=f"print JSON instead of {instead_of}")
