"""What matters in a sweep: how much of its accuracies each method's hyperparameters explain."""

import csv
import io
from collections.abc import Sequence

from arc_train.hyperparameters.importance import importance
from arc_train.hyperparameters.searchers import Observation
from orchestrator.contents import Contents
from orchestrator.store.importance import Importances, MethodImportance
from orchestrator.store.result import Result, by_study

COLUMNS = ("backbone", "method", "epoch", "tasks", "trials", "unseen", "hyperparameter")
SHARES = ("alone", "total")


def importances(found: Contents) -> Importances:
    """Of all methods whose trials tell something, in the sweep's order."""
    of_study = by_study(found.search_trials(found.results.values()))
    pairs = dict.fromkeys((study.backbone, study.method) for study in found.studies)
    methods = (
        _method(found, *pair, [t for s, t in of_study.items() if (s.backbone, s.method) == pair])
        for pair in pairs
    )
    total = sum(map(len, of_study.values()))
    return Importances(total, tuple(method for method in methods if method))


def _method(
    found: Contents, backbone: str, method: str, tasks: Sequence[Sequence[Result]]
) -> MethodImportance | None:
    """One method's, by the accuracies after the last epoch at which all its trials had one.

    Rungs stop the worse trials: at a later epoch there would be the better ones alone.
    """
    if found.spec is None:
        return None
    try:
        space = found.spec.space(method)
    except (LookupError, ValueError):  # a method that isn't here, or another version's space
        return None
    curves = {
        result.id: {
            row.epoch: row.val_accuracy for row in result.curve if row.val_accuracy is not None
        }
        for task in tasks
        for result in task
        if result.status != "diverged"
    }
    epoch = max(set.intersection(*map(set, curves.values())), default=None) if curves else None
    if epoch is None:
        return None
    observed = [
        [
            Observation(result.config, curves.get(result.id, {}).get(epoch))
            for result in task
            if result.config.keys() == space.keys()
        ]
        for task in tasks
    ]
    shares = importance(space, observed)
    return MethodImportance(backbone, method, epoch, shares) if shares else None


def importances_csv(found: Importances) -> str:
    """A line for each hyperparameter of each method."""
    ends = [f"{share}{end}" for share in SHARES for end in ("", "_ci95_low", "_ci95_high")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *ends])
    for row in found.methods:
        known = row.importance
        for name in known.alone:
            line = [row.backbone, row.method, row.epoch, known.tasks, known.trials, known.unseen]
            for shares in (known.alone, known.total):
                line += [shares[name].value, *(shares[name].ci95 or (None, None))]
            writer.writerow([*line[:6], name, *line[6:]])
    return text.getvalue()
