"""The search trials of a sweep as a script would run them that has only Ray Tune's own means.

Its arguments are the sweep's folder and one of its own. It has a function trainable with a
checkpoint after each epoch, FailureConfig, WandbLoggerCallback, and Tuner.restore where there is
something to restore; results.json in its folder says how each trial ended.
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.air.integrations.wandb import WandbLoggerCallback

from arc_train import backbones
from arc_train.feed import Images
from arc_train.pack import Member
from arc_train.recipe import Recipe
from arc_train.tasks import cache
from arc_train.tasks.views import search_data
from arc_train.training import PackRun
from orchestrator.spec import load_resolved
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan


def train(config: dict[str, Any]) -> None:
    """Train one trial, from its checkpoint if it has one."""
    plan = _alone(Path(config["sweep"]), config["trial"])
    run = _build(Path(config["sweep"]) / "spec.yaml", plan)
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            run.load_state_dict(torch.load(Path(folder) / "state.pt", weights_only=True))
    while not run.done:
        outcomes = run.run_epoch()
        report = {"epoch": run.epoch, "trial": config["trial"]}
        for outcome in outcomes:
            report |= {"val_accuracy": outcome.val_accuracy, "val_loss": outcome.val_loss}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(run.state_dict(), Path(folder) / "state.pt")
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))
        line = json.dumps([time.time(), os.getpid(), config["trial"], run.epoch, True]) + "\n"
        with open(os.environ["WATCHED_EPOCHS"], "ab", buffering=0) as file:
            file.write(line.encode())


def _alone(sweep: Path, trial: str) -> PackPlan:
    """The pack that a trial was in, without the others."""
    for plan in SweepFolder(sweep).pack_records():
        for planned in plan.trials:
            if planned.id == trial:
                return replace(plan, trials=(planned,))
    raise KeyError(trial)


def _build(spec_file: Path, plan: PackPlan) -> PackRun:
    """A trial's training before its first epoch, as a sweep's worker builds it."""
    spec = load_resolved(spec_file)
    torch.set_num_threads(1)
    backbone = spec.backbone(plan.study.backbone)
    model = backbones.build(backbone)
    side = backbones.input_size(model)
    entry = cache.prepare(
        spec.catalog[plan.study.task], spec.data_root, side, spec.cache_folder, draw=spec.draw
    )
    data = search_data(entry, spec.seed)
    training = spec.training
    return PackRun(
        model,
        plan.study.method,
        entry.task.classes,
        [Member(t.id, t.config, t.init_seed) for t in plan.trials],
        [t.order_seed for t in plan.trials],
        Recipe(training.epochs, training.batch_size, training.warmup_epochs, clip=training.clip),
        Images(*backbones.statistics(backbone, model, spec.data.normalise), torch.device("cpu")),
        data.train,
        data.val,
        metric=entry.task.metric,
    )


def main() -> None:
    """Run or restore the Tuner; the exit code is 1 if trials have failed."""
    sweep, folder = map(Path, sys.argv[1:])
    path = folder / "tune"
    trainable = tune.with_resources(train, {"cpu": 1})
    if tune.Tuner.can_restore(str(path)):
        tuner = tune.Tuner.restore(str(path), trainable, resume_errored=True)
    else:
        plans = [plan for plan in SweepFolder(sweep).pack_records() if plan.kind == "search"]
        trials = [trial.id for plan in plans for trial in plan.trials]
        tuner = tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(trials), "sweep": str(sweep)},
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=2),
                callbacks=[WandbLoggerCallback(project="plain")],
            ),
        )
    results = tuner.fit()
    ended = [
        [result.metrics.get("trial"), result.metrics.get("val_accuracy"), str(result.error or "")]
        for result in results
    ]
    (folder / "results.json").write_text(json.dumps(ended))
    sys.exit(int(results.num_errors > 0))
