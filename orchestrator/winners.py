"""What a sweep found, for other sweeps: each study's winner, as a table and as a sweep file."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import yaml

from arc_train.hyperparameters.space import Config
from orchestrator.contents import Contents
from orchestrator.search.selection import Candidate, finals, metered_alike, select
from orchestrator.spec import Spec
from orchestrator.store.result import Result, Study, by_study


@dataclass(frozen=True)
class Winner:
    """A study's best configuration, with accuracies in percent.

    test_accuracy: mean over finals, None before the first. searched: search trials that ended;
    expected: of how many, None where the folder doesn't tell.
    """

    backbone: str
    method: str
    task: str
    config: Config
    val_accuracy: float
    test_accuracy: float | None
    finals: int
    searched: int
    expected: int | None

    @property
    def study(self) -> Study:
        """The study that it has won."""
        return Study(self.backbone, self.method, self.task)


def winners(found: Contents) -> list[Winner]:
    """The winners of a sweep's studies, in its order; a study without a finished trial has none."""
    of_study = by_study(metered_alike(found.results.values(), found.leak_meter))
    chosen = (_winner(found, study, of_study.get(study, [])) for study in found.studies)
    return [winner for winner in chosen if winner]


def _winner(found: Contents, study: Study, own: Sequence[Result]) -> Winner | None:
    best = select(map(Candidate.of, own))
    if best is None or best.val_accuracy is None:
        return None
    tested = [r.test_accuracy for r in finals(own, best) if r.test_accuracy is not None]
    return Winner(
        **asdict(study),
        config=best.config,
        val_accuracy=best.val_accuracy,
        test_accuracy=fmean(tested) if tested else None,
        finals=len(tested),
        searched=len(found.search_trials(own)),
        expected=found.budget(study),
    )


def winners_csv(rows: Iterable[Winner]) -> str:
    """The winners as CSV, a column for each hyperparameter that occurs."""
    plain = [asdict(row) for row in rows]
    hyper = sorted({name for row in plain for name in row["config"]})
    columns = [name for name in plain[0] if name != "config"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns[:3] + hyper + columns[3:], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row.pop("config"), **row} for row in plain)
    return text.getvalue()


def sweep_file(spec: Spec, rows: Sequence[Winner]) -> str:
    """A sweep file in which each winner's study tries its configuration alone.

    Its finals are the trials that the sweep's own are, with the same ids. A study without a winner
    is searched as before.
    """
    plain = spec.model_dump(mode="json", exclude_defaults=True)
    plain["name"] = f"{spec.name}-winners"
    fixed = {str(row.study): dict(row.config) for row in rows}
    plain["search"] = {**plain.get("search", {}), "fixed": fixed}
    searched = len(spec.studies) - len(fixed)
    if not searched:
        plain.pop("selection", None)  # nothing is left to choose among
    left = f", and {searched} studies without a winner to search" if searched else ""
    text = yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    return (
        f"# Written by arc-sweep winners: the configurations that won in {spec.name}{left}.\n"
        f"# docs/search.md says what search.fixed does.\n\n{text}"
    )
