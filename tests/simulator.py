"""Whole sweeps in milliseconds, whose trainings are invented and whose faults are drawn.

Real: `sweep.run`, the search, the folder and its files, packs with their checkpoints and results,
the count of failed attempts. Invented: images, weights, what an epoch of training brings (a
function of the trial), and the cluster, whose processes die at any of the writes.
"""

import contextlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
from rich.console import Console

import orchestrator.store.folder as files
from arc_train.outcome import CurveRow, Outcome
from arc_train.recipe import Halving
from orchestrator import sweep
from orchestrator.cluster import running_pack, tuner
from orchestrator.cluster.attempts import Attempts
from orchestrator.cluster.running_pack import RunningPack
from orchestrator.leaderboard import Source, board_of
from orchestrator.leaderboard.board import Board
from orchestrator.plan import Identity, Origin, halving
from orchestrator.progress import Progress
from orchestrator.search.studies import SweepSearch
from orchestrator.spec import Spec, resolve
from orchestrator.store import record
from orchestrator.store.adapter import adapter_bytes
from orchestrator.store.folder import SweepFolder
from orchestrator.store.pack import PackPlan, Trial, pack_text
from orchestrator.store.resolved_spec import read_spec
from orchestrator.store.result import DataInfo, Result, WeightsInfo, result_text

TASKS = ("demo/digits", "demo/count")
IDENTITY = Identity({"arc_pico": "w"}, dict.fromkeys(TASKS, "d"))
EPOCHS = 4
AT_ONCE = 2  # packs
SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"search": {"trials": 5, "algorithm": "random", "halving": None}, "pack": {"size": 2}},
    {"selection": {"revalidate": 2, "seeds": 1}, "resources": {"max_failures": 0}},
    {"protocol": {"leak_meter": True}, "finals": {"seeds": [0], "predictions": False}},
    {
        "tasks": list(TASKS),
        "search": {"trials": 4, "algorithm": "grid", "space": {"linear": {"lr": [0.1, 0.01]}}},
    },
)


class Killed(BaseException):
    """A process died, at a write; worker: whether it was only that of a pack."""

    def __init__(self, worker: bool) -> None:
        super().__init__("killed")
        self.worker = worker


@dataclass(frozen=True)
class InventedPredictions:
    """What RunningPack uses of Predictions, where they aren't kept."""

    accuracy: float

    def score(self, metric: str) -> float:
        return self.accuracy


class Silent(Console):
    """Renders nothing: that would take a tenth of the time."""

    def print(self, *objects: Any, **style: Any) -> None:
        pass


class InventedRun:
    """What RunningPack uses of a PackRun, with numbers drawn from each trial's seeds."""

    train_images = 10

    def __init__(self, trials: tuple[Trial, ...], rungs: Halving | None, searching: bool) -> None:
        self.pack = self
        self.device = torch.device("cpu")
        self.members = list(trials)
        self.epoch = 0
        self._searching = searching
        self._rungs = rungs.rungs(EPOCHS) if rungs else []
        self._curves: dict[str, list[CurveRow]] = {trial.id: [] for trial in trials}

    @property
    def done(self) -> bool:
        return self.epoch >= EPOCHS or not self.members

    def curve(self, trial: str) -> list[CurveRow]:
        return self._curves[trial]

    def state(self, index: int) -> dict[str, torch.Tensor]:
        return {"weights": torch.tensor([self._drawn(self.members[index])])}

    def run_epoch(self) -> list[Outcome]:
        self.epoch += 1
        lost = [t for t in self.members if self._drawn(t, "epochs") * 20 < self.epoch - 2]
        outcomes = [self._outcome(trial, "diverged", "invented") for trial in lost]
        self.members = [trial for trial in self.members if trial not in lost]
        last = self.epoch == EPOCHS
        validated = self._searching and (last or self.epoch in self._rungs)
        for trial in self.members:
            drawn = self._drawn(trial)
            scores = (drawn, 100 * drawn) if validated else (None, None)
            row = CurveRow(self.epoch, self._drawn(trial, "train"), *scores)
            self._curves[trial.id].append(row)
        if last:
            return outcomes + [self._outcome(trial, "done") for trial in self.members]
        if validated:
            best = sorted(self.members, key=self._drawn)[(len(self.members) + 1) // 2 :]
            losers = [trial for trial in self.members if trial not in best]
            if best:
                outcomes += [self._outcome(t, "stopped", "invented") for t in losers]
                self.members = [trial for trial in self.members if trial in best]
        return outcomes

    def predict(self, split: object, most_bytes: int) -> list["InventedPredictions"]:
        return [InventedPredictions(100 * self._drawn(t, "test")) for t in self.members]

    def state_dict(self) -> dict[str, Any]:
        pack = {"ids": [trial.id for trial in self.members]}
        curves = {trial: [list(row) for row in rows] for trial, rows in self._curves.items()}
        return {"pack": pack, "epoch": self.epoch, "curves": curves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._curves = {k: [CurveRow(*row) for row in v] for k, v in state["curves"].items()}
        self.members = [trial for trial in self.members if trial.id in state["pack"]["ids"]]

    def _drawn(self, trial: Trial, what: str = "") -> float:
        return _number(f"{trial.init_seed}/{self.epoch}/{what}")

    def _outcome(self, trial: Trial, status: str, note: str | None = None) -> Outcome:
        curve = self._curves[trial.id]
        _, _, loss, accuracy = curve[-1] if curve else (0, None, None, None)
        return Outcome(
            id=trial.id,
            status=status,
            epochs_run=len(curve),
            curve=tuple(curve),
            val_loss=loss,
            val_accuracy=accuracy,
            trainable_params=10,
            adapter_params=9,
            seconds=0.0,
            images_per_second=0.0,
            peak_memory=None,
            execution="eager",
            note=note,
        )


@cache
def _number(drawn_from: str) -> float:
    return random.Random(drawn_from).random()


class PlainCheckpoints:
    """In place of PyTorch, whose archives take a tenth of the time: digests lie around them."""

    @staticmethod
    def save(state: dict[str, Any], file: IO[bytes]) -> None:
        file.write(json.dumps(state).encode())

    @staticmethod
    def load(file: IO[bytes], **_: object) -> Any:
        return json.load(file)


class InventedPack(RunningPack):
    """A real pack around an invented training; saved after about half of its epochs."""

    draws: random.Random

    def _build(self, origin: Origin) -> Any:
        plan = self.plan
        self._data = DataInfo(variant=None, fingerprint=origin.images)
        self._metric = "accuracy"
        self._weights = WeightsInfo(
            source="invented", revision=None, sha256=None, mean=(0.5,), std=(0.5,)
        )
        if plan.kind == "final":
            self._test = cache(self._record_test_access)  # type: ignore[assignment]
        rungs = halving(self.spec) if plan.kind == "search" else None
        return InventedRun(plan.trials, rungs, plan.kind != "final")

    def _save(self) -> None:
        self._save_cost = self.draws.choice([0.0, float("inf")])
        super()._save()


@dataclass
class World:
    """The processes of one sweep and their fate.

    excused: by pack, how often a fault may have made it open its test split once more.
    written: by trial, results written; damaged: by trial, results taken away since.
    """

    seed: int
    place: Path
    spec: Spec = field(init=False)
    orphans: list[InventedPack] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)
        kind = self.draws.choices(range(len(SPECS)), [4, 4, 2, 2, 1])[0]
        self.spec = specs()[kind].model_copy(update={"storage": str(self.place)})
        self.folder = Path(self.spec.place)
        self.kind = kind
        self.fuse: int | None = None  # writes until a process dies
        self.faults = 0.0  # how likely each step goes wrong
        self.dead = self.in_worker = False
        self.late: list[tuple[Path, Path]] = []

    # What the patched parts call.

    def mutate(self, do: Callable[[], None], tear: Callable[[], None] = lambda: None) -> None:
        """A change of the folder, before, in, or after which a process may die."""
        if self.dead:
            raise Killed(worker=False)
        if self.fuse is not None:
            self.fuse -= 1
        if self.fuse is None or self.fuse >= 0:
            return do()
        self.fuse = None
        worker = self.in_worker and self.draws.random() < 0.5
        self.dead = not worker
        moment = self.draws.choice(["before", "torn", "after"])
        self.story.append(f"{'worker' if worker else 'driver'} dies, {moment} a write")
        if moment == "torn":
            tear()
        if moment == "after":
            do()
        raise Killed(worker)

    def write(self, path: Path, content: bytes) -> None:
        def tear() -> None:
            path.with_name(f".{path.name}.torn").write_bytes(content[: len(content) // 2])

        def do() -> None:
            if path.parent.name == "trials" and path.parent.parent == self.folder:
                self.written[path.stem] += b'"status": "failed"' not in content
            path.write_bytes(content)

        self.mutate(do, tear)

    def drive(
        self, spec: Spec, folder: SweepFolder, _: Identity, search: SweepSearch, reports: Any
    ) -> None:
        """The cluster: packs move on in any order, and fail."""
        attempts = Attempts(search, folder, IDENTITY, spec.resources.max_failures, reports)
        self.running: dict[str, InventedPack | None] = {}
        plans: dict[str, PackPlan] = {}

        def fail(pack: str, why: str) -> None:
            results = [folder.result(trial.id) for trial in plans[pack].trials]
            self.excused[pack] += any(r is None or r.status == "failed" for r in results)
            del self.running[pack]
            attempts.failed(plans[pack], RuntimeError(why))

        while True:
            if self.orphans and self.draws.random() < 0.5:
                self.advance_orphan()
            elif len(self.running) < AT_ONCE and (plan := search.next()) is not None:
                self.running[plan.id], plans[plan.id] = None, plan
                reports.started(plan)
            elif not self.running:
                assert search.complete, "nothing runs and nothing can start: it would hang"
                return
            elif self.wrong():
                if self.draws.random() < 0.2:
                    self.story.append("Ctrl-C")
                    raise KeyboardInterrupt
                several = self.draws.random() < 0.3  # as where a Tuner breaks
                for pack in list(self.running)[: None if several else 1]:
                    self.story.append(f"worker of {pack} dies")
                    fail(pack, "killed")
            else:
                pack = self.draws.choice(list(self.running))
                try:
                    self.in_worker = True
                    report = self.advance(plans[pack], folder)
                except Killed as death:
                    if not death.worker:
                        self.running[pack] = None  # cut off amid its work, it can't live on
                        raise
                    self.in_worker = False
                    fail(pack, "killed")
                    continue
                finally:
                    self.in_worker = False
                for _ in range(self.draws.choice([0, 1, 2]) if self.wrong() else 1):
                    reports.reported(plans[pack], report)
                if report.done:
                    del self.running[pack]
                    if self.wrong():
                        self.delay(self.draws.choice(plans[pack].trials).id)
                    for _ in range(2 if self.wrong() else 1):
                        search.ended(plans[pack])

    def advance(self, plan: PackPlan, folder: SweepFolder) -> Any:
        pack = self.running[plan.id]
        if pack is None:
            InventedPack.draws = self.draws
            pack = InventedPack(self.spec, plan, folder, IDENTITY.origin(plan.study))
            self.running[plan.id] = pack
        return pack.advance(0)

    def advance_orphan(self) -> None:
        """A worker outlived its driver, and writes into the folder of the next."""
        pack = self.draws.choice(self.orphans)
        pack.advance(0)
        if pack.run.done:
            self.orphans.remove(pack)

    def wrong(self) -> bool:
        return self.draws.random() < self.faults

    def delay(self, trial: str) -> None:
        """A result is seen late, once the driver has ended."""
        path = self.folder / "trials" / f"{trial}.json"
        if path.exists():
            self.story.append(f"result of {trial} is late")
            self.damaged[trial] += 1  # it may be made twice
            hidden = self.place / f"{trial}.late"
            path.rename(hidden)
            self.late.append((hidden, path))

    # What the test calls.

    def run(self, disturbed: bool) -> sweep.Ended | None:
        """The command once; None if its driver died."""
        self.dead = False
        self.running = {}
        self.fuse = self.draws.randrange(60) if disturbed and self.draws.random() < 0.7 else None
        self.faults = self.draws.choice([0.0, 0.05, 0.2]) if disturbed else 0.0
        self.story.append("run")
        ended = None
        with contextlib.suppress(Killed):
            ended = sweep.run(self.spec, Progress(Silent()))
        for pack, worker in self.running.items():
            self.excused[pack] += 1
            if worker is not None and self.draws.random() < 0.3:
                self.story.append(f"worker of {pack} lives on")
                self.orphans.append(worker)
                self.excused[pack] += 1
        for hidden, path in self.late:
            hidden.rename(path)
        self.late.clear()
        return ended

    def damage(self) -> None:
        """A file is torn, garbled, copied or taken away while nothing runs."""
        found = [p for p in sorted(self.folder.glob("*/*")) if p.parent.name in ("trials", "packs")]
        path = self.draws.choice([*found, self.folder / "spec.yaml"])
        if not path.is_file():
            return
        content = path.read_bytes()
        kind = self.draws.choice(["cut", "flip", "empty", "noise", "gone", "copy", "swap"])
        self.story.append(f"{path.parent.name}/{path.name}: {kind}")
        if kind == "copy":
            path.with_name(f"{path.stem} (conflicted copy){path.suffix}").write_bytes(content)
            return
        self.damaged[path.stem] += 1
        for plan in self.folder.glob("packs/*.json"):
            text = plan.read_bytes()
            self.excused[plan.stem] += path.stem.encode() in text
        self.excused[path.stem] += 1
        if kind == "gone":
            path.unlink()
            return
        place = self.draws.randrange(max(1, len(content)))
        flipped = bytearray(content or b"x")
        flipped[place] ^= 1 << self.draws.randrange(8)
        other = self.draws.choice(found or [path]).read_bytes()
        path.write_bytes(
            {
                "cut": content[:place],
                "flip": bytes(flipped),
                "empty": b"",
                "noise": self.draws.randbytes(50),
                "swap": other,
            }[kind]
        )

    def outcome(self) -> tuple[dict[str, Result], Board]:
        """All results, and the leaderboard."""
        return SweepFolder(self.folder).results(), self.board

    def openings(self) -> list[dict[str, Any]]:
        """What test_access.jsonl says."""
        path = self.folder / "test_access.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@cache
def specs() -> tuple[Spec, ...]:
    base = {
        "name": "s",
        "tasks": list(TASKS[:1]),
        "methods": ["linear"],
        "backbones": ["arc_pico"],
        "search": {"trials": 3, "algorithm": "random", "halving": {"start": 1, "eta": 2}},
        "training": {"epochs": EPOCHS, "warmup_epochs": 1},
        "finals": {"seeds": [0, 1], "predictions": False},
        "resources": {"max_failures": 1},
        "wandb": {"mode": "disabled"},
    }
    return tuple(resolve(base | changes, "simulated") for changes in SPECS)


@contextlib.contextmanager
def installed(world: World) -> Iterator[None]:
    """This world's parts in the places of the real ones."""

    def made(found: Source) -> Board:  # many runs end with the same results
        found = replace(found, place="", spec=None)  # all else makes the board
        ended = tuple((result.id, result.status) for result in found.results)
        known, board = _boards.get(ended, (None, None))
        if board is None or known != found:
            board = board_of(found)
            _boards[ended] = found, board
        return board

    def board(folder: SweepFolder, _: object, board: Board) -> None:
        folder.write(folder.path / "leaderboard.json", b"")
        world.board = board

    def named(path: Path, read: Any) -> Any:  # many worlds have the same files
        key = path.name, path.read_bytes()
        if key not in _read:
            _read[key] = record.named(path, read)
        return _read[key]

    def text(value: Result | PackPlan) -> str:  # many worlds write the same
        known, written = _written.get(value.id, (None, ""))
        if known != value:
            written = (result_text if isinstance(value, Result) else pack_text)(value)
            _written[value.id] = value, written
        return written

    def adapter(tensors: dict[str, torch.Tensor], study: dict[str, str]) -> bytes:
        key = tensors["weights"].item(), *study.values()
        if key not in _adapters:
            _adapters[key] = adapter_bytes(tensors, study)
        return _adapters[key]

    def patched(name: str) -> Any:
        real = getattr(SweepFolder, name)
        return lambda *arguments: world.mutate(lambda: real(*arguments))

    with contextlib.ExitStack() as stack:
        for target, name, part in (
            (sweep, "prepare", lambda *_: IDENTITY),
            (sweep, "dump", lambda spec: spec.model_dump_json()),  # YAML would take half the time
            (sweep, "load_resolved", lambda path: Spec.model_validate_json(read_spec(path))),
            (sweep.leaderboard, "board_of", made),
            (sweep.leaderboard, "write", board),
            (sweep, "resolve_mode", lambda mode: mode),  # W&B's settings have no part in this,
            (sweep, "check_room", lambda *_: None),  # nor has the room on this machine's disks,
            (sweep, "locked", lambda *_: contextlib.nullcontext()),  # nor another driver
            (tuner, "drive", world.drive),
            (running_pack, "torch", PlainCheckpoints),
            (running_pack, "adapter_bytes", adapter),
            (files, "write_atomically", world.write),
            (files, "named", named),
            (files, "result_text", text),
            (files, "pack_text", text),
            (SweepFolder, "record_test_access", patched("record_test_access")),
            (SweepFolder, "drop_checkpoint", patched("drop_checkpoint")),
        ):
            stack.callback(setattr, target, name, getattr(target, name))
            setattr(target, name, part)
        yield


_undisturbed: dict[int, tuple[dict[str, Result], Board]] = {}
_boards: dict[Any, tuple[Source, Board]] = {}
_read: dict[tuple[str, bytes], Any] = {}
_written: dict[str, tuple[Result | PackPlan, str]] = {}
_adapters: dict[tuple[Any, ...], bytes] = {}


def simulate(seed: int, scratch: Path, thorough: bool = False) -> None:
    """One sweep under the faults of a seed, to its end.

    thorough: hit it, too, when it is complete and nothing of it is damaged.

    Raises:
        AssertionError: something was lost, doubled or unequal; tells the story.
    """
    shutil.rmtree(scratch / str(seed), ignore_errors=True)
    world = World(seed, scratch / str(seed))
    with installed(world):
        try:
            _simulate(world, thorough)
        except Exception as error:
            lines = "\n  ".join(world.story)
            raise AssertionError(f"seed {seed}: {error!r}\n  {lines}") from error
    shutil.rmtree(world.place)


def _simulate(world: World, thorough: bool) -> None:
    if world.kind not in _undisturbed:
        calm = World(world.seed, world.place / "calm")
        with installed(calm):
            calm.run(disturbed=False)
            _undisturbed[world.kind] = calm.outcome()
    expected = _undisturbed[world.kind]
    for _ in range(world.draws.randrange(1, 5)):
        ended = world.run(disturbed=True)
        if ended and ended.complete and not ended.interrupted:
            assert world.outcome() == expected, "it said that it is complete"
        damages = world.draws.choice([0, 0, 1, 2])
        for _ in range(damages):
            world.damage()
        if ended and ended.complete and not ended.interrupted and not damages and not thorough:
            break
    else:
        ended = world.run(disturbed=False)
    assert ended
    assert ended.complete, "an undisturbed run left something"
    assert not ended.interrupted
    results, board = world.outcome()
    assert results.keys() == expected[0].keys()
    assert results == expected[0]
    assert board == expected[1]
    for trial in results:
        assert world.written[trial] <= 1 + world.damaged[trial], f"{trial} was made again"
    openings = world.openings()
    opened = {trial for line in openings for trial in line["trials"]}
    finals = {trial for trial, result in results.items() if result.kind == "final"}
    assert opened == finals, "a test split was opened for others than the winner's finals"
    for pack, times in Counter(line["pack"] for line in openings).items():
        assert times <= 1 + world.excused[pack], f"{pack} opened its test split {times} times"
