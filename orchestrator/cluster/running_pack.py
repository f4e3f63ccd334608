"""A pack on a worker: its training, its checkpoint and its result files."""

import functools
import io
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch

from arc_train import backbones
from arc_train.device import device_of
from arc_train.errors import InputError
from arc_train.feed import Images
from arc_train.memory import take_share
from arc_train.methods import own
from arc_train.outcome import Outcome
from arc_train.pack import Member
from arc_train.recipe import Recipe
from arc_train.tasks import cache
from arc_train.tasks.progress import Lines
from arc_train.tasks.views import Split, final_data, search_data
from arc_train.training import PackRun
from orchestrator.cluster.frozen import frozen
from orchestrator.cluster.provenance import code_of, data_info, device_name, package_versions
from orchestrator.cluster.report import PackReport
from orchestrator.plan import Origin, halving
from orchestrator.spec import Spec
from orchestrator.store.access import SplitAccess
from orchestrator.store.adapter import adapter_bytes
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan, pack_of
from orchestrator.store.record import DamagedFile
from orchestrator.store.result import Curve, MeterRow, Result, Status, WeightsInfo

# Checkpoints may take this share of the time at most; a small pack is saved after every step.
CHECKPOINT_SHARE = 0.05


def running_pack(config: dict[str, Any]) -> "RunningPack":
    """The pack in a worker's config: its "spec", "pack" and "folder" as texts, and its "origin"."""
    spec = Spec.model_validate_json(config["spec"])
    torch.set_num_threads(max(1, int(spec.resources.cpu)))
    # Compiled code is kept beside the images: the next worker on this node finds it.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(spec.cache_folder / "inductor"))
    return RunningPack(spec, pack_of(config["pack"]), _folder(config["folder"]), config["origin"])


@functools.cache
def _folder(place: str) -> SweepFolder:
    folder = SweepFolder(place)
    folder.create()
    return folder


class RunningPack:
    """A pack on this process: its training, its checkpoint and its result files."""

    def __init__(self, spec: Spec, plan: PackPlan, folder: SweepFolder, origin: Origin) -> None:
        self.spec, self.plan, self.folder = spec, plan, folder
        self._began = time.monotonic()
        if origin.source:
            own.require(plan.study.method, origin.source)
        self._code = code_of(origin.source)
        self._test: Callable[[], Split] | None = None
        self._tested: dict[str, list[MeterRow]] = {trial.id: [] for trial in plan.trials}
        self._notes: list[str] = []
        self.run = self._build(origin)
        self._reported = 0  # epochs
        self._saved_at, self._save_cost = time.monotonic(), 0.0
        if why := self._continue():
            self._notes.append(f"pack {plan.id} starts anew: {why}")

    def _build(self, origin: Origin) -> PackRun:
        """The pack's training before its first epoch, from this node's weights and images.

        Raises:
            InputError: they aren't those of the driver.
        """
        spec, plan, study = self.spec, self.plan, self.plan.study
        backbone = spec.backbone(study.backbone)
        device = device_of(spec.gpus)
        take_share(spec.gpus)
        model, weights = frozen(backbone, origin.weights, device)
        entry = cache.prepare(
            spec.catalog[study.task],
            spec.data_root,
            backbones.input_size(model),
            spec.cache_folder,
            Lines(study.task, cache.log),
            spec.draw,
            self._notes.append,
        )
        if entry.fingerprint != origin.images:
            raise InputError(
                f"{study.task}: this node's images differ from those of the driver "
                f"(fingerprint {entry.fingerprint}, not {origin.images})"
            )
        mean, std = backbones.statistics(backbone, model, spec.data.normalise)
        self._weights = WeightsInfo(**asdict(weights), mean=mean, std=std)
        # A search keeps no hold of the entry, and no other way to the test images.
        if plan.kind != "final":
            search = search_data(entry, spec.seed)
            train, val = search.train, search.val
        else:
            final = final_data(entry, spec.protocol.final_on, self._record_test_access)
            train, val = final.train, None
            self._test = functools.cache(final.open_test)
        self._metric = entry.task.metric
        self._data = data_info(entry, spec.data.normalise, val)
        training = spec.training
        return PackRun(
            model,
            study.method,
            entry.task.classes,
            [Member(t.id, t.config, t.init_seed) for t in plan.trials],
            [t.order_seed for t in plan.trials],
            Recipe(
                training.epochs, training.batch_size, training.warmup_epochs, clip=training.clip
            ),
            Images(mean, std, device),
            train,
            val,
            halving(spec) if plan.kind == "search" else None,
            spec.pack.chunk,
            metric=entry.task.metric,
        )

    def _continue(self) -> str | None:
        """Go on from the pack's checkpoint; returns why it starts anew though it has one.

        It does where the checkpoint is damaged, of an earlier version, or taken after the end of
        trials whose results were lost since.
        """
        try:
            saved = self.folder.load_checkpoint(self.plan.id)
            if saved is None:
                return None
            checkpoint = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
            in_training = checkpoint["pack"]["ids"]
            ended = [trial.id for trial in self.plan.trials if trial.id not in in_training]
            if lost := [trial for trial in ended if self._lost(trial)]:
                return f"results of trials that had ended are missing ({', '.join(lost)})"
            self.run.load_state_dict(checkpoint)
        except ValueError as error:
            return f"its checkpoint can't be used: {error}"
        tested = checkpoint.get("tested", {})
        self._tested |= {trial: [MeterRow(*row) for row in rows] for trial, rows in tested.items()}
        return None

    def _lost(self, trial: str) -> bool:
        """Whether a trial that had ended has no result."""
        try:
            result = self.folder.result(trial)
        except DamagedFile:
            return True
        return result is None or result.status == "failed"

    def advance(self, seconds: float) -> PackReport:
        """Run epochs for about `seconds`."""
        started, ended, images = time.monotonic(), [], 0
        while not self.run.done:
            images += len(self.run.pack.members) * self.run.train_images
            outcomes = self.run.run_epoch()
            due = self.run.done or self.spec.protocol.leak_meter
            if self._test and self.run.pack.members and due:
                self._measure(self._test())
            if not self.run.done:
                ended += [self._write(outcome) for outcome in outcomes]
                self._save()
            else:
                ended += self._finish(outcomes)
            if time.monotonic() - started >= seconds:
                break
        if self.run.done:
            self.folder.drop_checkpoint(self.plan.id)
        notes = tuple(self._notes)
        self._notes.clear()
        return PackReport(
            pack=self.plan.id,
            epoch=self.run.epoch,
            alive=len(self.run.pack.members),
            images=images,
            seconds=time.monotonic() - self._began,
            ended=tuple(result.id for result in ended),
            curves={} if self.run.done else self._curves(),
            done=self.run.done,
            notes=notes,
        )

    def _curves(self) -> dict[str, Curve]:
        """What the curves of the trials in training gained since the last report.

        The first report after a checkpoint has them whole: nobody knows what arrived before it.
        """
        seen, self._reported = self._reported, self.run.epoch
        return {m.id: tuple(self.run.curve(m.id)[seen:]) for m in self.run.pack.members}

    def _measure(self, test: Split) -> None:
        """Test the finals as they are after this epoch: nothing but their results will know."""
        finals = self.spec.finals
        most_bytes = int(1e6 * finals.logits_mb) if finals.predictions and self.run.done else 0
        found = self.run.predict(test, most_bytes)
        for member, predictions in zip(self.run.pack.members, found, strict=True):
            accuracy = predictions.score(self._metric)
            self._tested[member.id].append(MeterRow(self.run.epoch, accuracy))
            if finals.predictions and self.run.done:
                self.folder.write_predictions(member.id, predictions)

    def _finish(self, outcomes: list[Outcome]) -> list[Result]:
        """Write the last results and keep the adapters of finals."""
        if self.plan.kind == "final":
            for index, member in enumerate(self.run.pack.members):
                self._keep_adapter(index, member.id)
        return [self._write(outcome) for outcome in outcomes]

    def _keep_adapter(self, index: int, trial: str) -> None:
        tensors = {k: v.contiguous() for k, v in self.run.pack.state(index).items()}
        path = self.folder.adapters / f"{trial}.safetensors"
        self.folder.write(path, adapter_bytes(tensors, asdict(self.plan.study)))

    def _write(self, outcome: Outcome) -> Result:
        trial = next(t for t in self.plan.trials if t.id == outcome.id)
        tested = self._tested[trial.id]
        metered = self.plan.kind == "final" and self.spec.protocol.leak_meter
        result = Result(
            **asdict(self.plan.info(trial)),
            epochs_run=outcome.epochs_run,
            status=cast(Status, outcome.status),
            note=outcome.note,
            val_accuracy=outcome.val_accuracy,
            val_loss=outcome.val_loss,
            test_accuracy=tested[-1].accuracy if tested and outcome.status == "done" else None,
            trainable_params=outcome.trainable_params,
            adapter_params=outcome.adapter_params,
            curve=outcome.curve,
            seconds=outcome.seconds,
            data=self._data,
            code=self._code,
            packages=package_versions(),
            device=device_name(self.run.pack.device),
            weights=self._weights,
            execution=outcome.execution,
            images_per_second=round(outcome.images_per_second, 1),
            peak_memory=outcome.peak_memory,
            energy=outcome.energy,
            test_curve=tuple(tested) if metered else None,
        )
        self.folder.write_result(result)
        return result

    def _save(self) -> None:
        """Save the pack, unless saving would take more than its share of the time."""
        now = time.monotonic()
        if (now - self._saved_at) * CHECKPOINT_SHARE < self._save_cost:
            return
        buffer = io.BytesIO()
        tested = {trial: [list(row) for row in rows] for trial, rows in self._tested.items()}
        torch.save({**self.run.state_dict(), "tested": tested}, buffer)
        self.folder.save_checkpoint(self.plan.id, buffer.getvalue())
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - now

    def _record_test_access(self) -> None:
        self.folder.record_test_access(
            SplitAccess(
                time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                purpose="leak meter" if self.spec.protocol.leak_meter else "final",
                task=self.plan.study.task,
                study=str(self.plan.study),
                pack=self.plan.id,
                trials=tuple(member.id for member in self.run.pack.members),
                process=os.getpid(),
            )
        )
