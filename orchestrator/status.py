"""How far a sweep is, from its folder alone: from another terminal or machine, at any time."""

from collections import Counter
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.plan import PackPlan, Study, budget, studies
from orchestrator.search.selection import metered_alike, select
from orchestrator.spec import load
from orchestrator.store.folder import Result, SweepFolder


def status(path: str) -> dict[str, Any]:
    """The state of a sweep's folder, as plain data. Changes nothing in it.

    Raises:
        InputError: it is no sweep's folder.
    """
    folder = SweepFolder(path)
    spec = load(folder.resolved_spec())
    results = folder.results()
    ended: dict[Study, list[Result]] = {}
    for result in metered_alike(results.values(), spec.protocol.leak_meter):
        if result["status"] != "failed":
            ended.setdefault(Study.of(result), []).append(result)
    lines = []
    for study in studies(spec):
        own = ended.get(study, [])
        # Under other seeds are the best ones, validated again.
        searched = [r for r in own if r["kind"] == "search" and r["seed"] == spec.seed]
        best = select(own)
        lines.append(
            {
                "study": str(study),
                "search": len(searched),
                "search_expected": budget(spec, study),
                "finals": sum(result["kind"] == "final" for result in own),
                "finals_expected": len(spec.finals.seeds),
                "best_val_accuracy": best and best["val_accuracy"],
                "config": best and best["config"],
            }
        )
    packs = [PackPlan.of(record) for record in folder.pack_records()]
    begun = [pack for pack in packs if any(trial.id not in results for trial in pack.trials)]
    return {
        "sweep": spec.name,
        "running": _running(folder),
        "statuses": dict(sorted(Counter(result["status"] for result in results.values()).items())),
        "complete": sum(
            line["search"] >= line["search_expected"] and line["finals"] >= line["finals_expected"]
            for line in lines
        ),
        "studies": lines,
        "packs_begun": [
            {
                "study": str(pack.study),
                "kind": pack.kind,
                "trials": len(pack.trials),
                "ended": sum(trial.id in results for trial in pack.trials),
            }
            for pack in begun
        ],
    }


def _running(folder: SweepFolder) -> bool:
    """Whether a driver holds the folder. (Seen from the driver's machine, or where locks carry.)"""
    path = folder.path / ".lock"
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a place where nothing can be locked, such as a copy that is read-only
        return False
