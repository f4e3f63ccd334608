"""`arc-sweep plan`: what a sweep will cost, counted, and on request in hours and money."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from arc_train.errors import InputError
from orchestrator.commands.arguments import add_json, add_spec
from orchestrator.commands.exit_codes import DONE
from orchestrator.slow_imports import slow_imports

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.cost.estimate import Estimate
    from orchestrator.cost.preparation import Preparation
    from orchestrator.spec import Spec

EXAMPLE = "my.yaml --gpu h100 --price 2.5"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_spec(parser)
    add_json(parser)
    parser.add_argument("--gpu", metavar="NAME", help="estimate GPU-hours: h100, l4, ...")
    parser.add_argument("--measured", metavar="DIR", help="estimate from a sweep's folder instead")
    parser.add_argument("--price", type=float, metavar="P", help="price of one GPU-hour")


def run(options: argparse.Namespace) -> int:
    """Show what the sweep costs, beside the published protocol; returns the exit code."""
    with slow_imports():
        from arc_train import backbones
        from orchestrator.commands.console import plain_console
        from orchestrator.cost.preparation import preparation
        from orchestrator.cost.work import cost, published_cost, task_sizes
        from orchestrator.spec import load

    spec = load(options.spec, options.overrides)
    sizes = task_sizes(spec)
    counts, published = asdict(cost(spec, sizes)), asdict(published_cost(spec, sizes))
    first = preparation(spec, sizes)
    guess = _estimate(options, spec, sizes)
    remarks = [
        remark
        for named in spec.backbones
        for remark in backbones.remarks(named.backbone(), backbones.outline(named.backbone()))
    ]
    if options.json:
        estimated = {"estimate": asdict(guess)} if guess else {}
        more = {"cache": asdict(first), **estimated, "remarks": remarks}
        print(json.dumps({**counts, "published_protocol": published, **more}))
        return DONE
    console = plain_console()
    console.print(_count_table(spec.name, counts, published))
    console.print(
        "Published protocol: as many configurations, each trained on train + val to the last epoch "
        "and tested on the whole test set after every epoch, one seed, best epoch reported.",
        style="dim",
    )
    console.print(_cache(spec, first), style="dim", highlight=False)
    console.print(_devices(spec), style="dim")
    for remark in remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
    if guess:
        console.print(_estimate_table(guess, options.price))
        console.print(f"{guess.assumption[0].upper()}{guess.assumption[1:]}.", style="dim")
    return DONE


def _estimate(
    options: argparse.Namespace, spec: "Spec", sizes: Mapping[str, tuple[int, int, int]]
) -> "Estimate | None":
    """The estimate that the options ask for, if they do."""
    if options.gpu and options.measured:
        raise InputError("--gpu assumes a throughput, --measured takes one: give one of them")
    if not options.gpu and not options.measured:
        if options.price is not None:
            raise InputError("--price needs --gpu or --measured: what costs so much an hour?")
        return None
    from orchestrator.cost.estimate import estimate  # counts with torch
    from orchestrator.cost.rates import assumed, measured

    rates = measured(options.measured) if options.measured else assumed(options.gpu)
    return estimate(spec, sizes, rates, options.price)


def _cache(spec: "Spec", first: "Preparation") -> str:
    """What comes before any training, in words."""
    from arc_train.tasks.cache import free_bytes

    return (
        f"Cache: {first.images:,} images to decode, once on each node: {first.gigabytes:,.2f} GB "
        f"of disk ({free_bytes(spec.cache_folder) / 1e9:,.0f} GB free here) and "
        f"{first.core_hours:,.2f} hours of one core, divided by its cores."
    )


def _devices(spec: "Spec") -> str:
    """What packs train on, in words."""
    gpus = spec.resources.gpu
    if gpus == "auto":
        return "Each pack trains on a GPU where the cluster has some, else on CPUs."
    return f"Each pack trains on {f'{gpus:g} GPU' if gpus else 'CPUs'} (resources.gpu)."


def _count_table(name: str, counts: dict[str, int], published: dict[str, int]) -> "Table":
    from rich.table import Table

    table = Table(title=f"plan of {name}", box=None, padding=(0, 2, 0, 0))
    table.add_column("at most")
    table.add_column("this sweep", justify="right")
    table.add_column("published protocol", justify="right")
    images = [key for key in counts if key.startswith("images")]
    for key in counts:
        table.add_row(key.replace("_", " "), f"{counts[key]:,}", f"{published[key]:,}")
    sums = (sum(column[key] for key in images) for column in (counts, published))
    table.add_row("images in all", *(f"{total:,}" for total in sums))
    return table


def _estimate_table(guess: "Estimate", price: float | None) -> "Table":
    from rich.table import Table

    table = Table(title=f"on {guess.gpu}, at most", box=None, padding=(0, 2, 0, 0))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    table.add_row("worker-hours" if guess.gpu == "cpu" else "GPU-hours", f"{guess.gpu_hours:,.1f}")
    if guess.money is not None:
        table.add_row("money", f"{guess.money:,.2f}", f"at {price:g} per GPU-hour")
    table.add_row("hours", f"{guess.hours_longest_study:,.2f}", f"of {guess.longest_study} alone")
    table.add_row("GPU memory", f"{guess.pack_memory_gb:,.1f} GB", "of a pack, and activations")
    table.add_row("disk", f"{guess.results_gb:,.1f} GB", "of storage, for adapters")
    return table
