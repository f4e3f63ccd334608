"""The typed spec of a sweep: every key of a sweep file, with its default and its bounds."""

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from arc_train.backbone import ARC_PICO, Backbone
from arc_train.hyperparameters.recommended import space_of
from arc_train.hyperparameters.space import Space
from arc_train.packing import MEMORY, ROUNDS
from arc_train.recipe import HALVING
from arc_train.tasks.cache import default_folder
from arc_train.tasks.catalog import Task, catalog
from arc_train.tasks.hub import Draw
from orchestrator.spec.task import NAME, TaskSpec
from orchestrator.store.remote import below, is_remote
from orchestrator.store.result import Study


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HalvingSpec(_Part):
    """Rungs at epochs start, start * eta, ...; at each, the best 1/eta of a pack continue.

    rungs: how many of these, at most; by default all before the last epoch.
    """

    start: int = Field(10, ge=1)
    eta: int = Field(3, ge=2)
    rungs: int | None = Field(None, ge=1)


class SearchSpec(_Part):
    """How each study is searched. `space` overrides the methods' recommended spaces.

    fixed: hyperparameters with one value in a study, by its name `backbone/method/task`; those that
    aren't named are searched. learn_from: folders of earlier sweeps whose trials portfolio learns
    from. rounds: portfolio and tpe propose a study's trials in so many rounds
    and learn from each. With more rounds a search needs fewer trials, but its packs are smaller.
    """

    algorithm: Literal["portfolio", "random", "grid", "tpe"] = "portfolio"
    trials: int = Field(16, ge=1, le=100_000)
    rounds: int = Field(ROUNDS, ge=1)
    halving: HalvingSpec | None = HalvingSpec(
        start=HALVING.start, eta=HALVING.eta, rungs=HALVING.most
    )
    space: dict[str, dict[str, Any]] = {}
    fixed: dict[str, dict[str, Any]] = {}
    learn_from: list[str] = []


class TrainingSpec(_Part):
    """The recipe of every trial (arc_train.recipe.Recipe)."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(32, ge=1)
    warmup_epochs: float = Field(10, ge=0)
    clip: float = Field(1.0, gt=0)


class SelectionSpec(_Part):
    """How a study's winner is selected.

    revalidate: how many of the study's best trials are trained again to the last epoch under
    `seeds` other seeds each; the best mean wins. 0: the search alone decides. Trials stopped at a
    rung are not eligible, so turn halving off if too few others remain.
    """

    revalidate: int = Field(0, ge=0)
    seeds: int = Field(2, ge=1)


class FinalsSpec(_Part):
    """The seeds under which each study's winner is refitted and tested once.

    predictions: whether each final's answers on the test images are kept, by which methods are
    compared. logits_mb: up to how many MB of a final its logits are kept with them.
    """

    seeds: list[int] = Field([0, 1, 2], min_length=1)
    predictions: bool = True
    logits_mb: float = Field(4, ge=0)


class ProtocolSpec(_Part):
    """How finals are trained and tested.

    final_on: the images that a final trains on; the published FGVC numbers use `train`.
    leak_meter: test finals after every epoch too, when selection is over, to show what "best epoch
    on test" would have claimed.
    """

    final_on: Literal["train+val", "train"] = "train+val"
    leak_meter: bool = False


class DataSpec(_Part):
    """Where images come from.

    root: the folder that holds the tasks' folders; or hub, or stand-ins, or stand-ins/500 for at
    most 500 images a split. cache: each node's cache of decoded images. draw, draw_seed: how images
    are drawn from a data set of the hub, which has no list of the published ones
    (arc_train.tasks.hub.Draw).
    """

    root: str | None = None
    cache: str | None = None
    normalise: Literal["backbone", "imagenet"] = "backbone"
    draw: Literal["uniform", "stratified"] = "uniform"
    draw_seed: int = Field(0, ge=0)


class PackSpec(_Part):
    """How large packs are.

    size: the most trials in one pack; by default 64 of methods that train on features computed
    once (linear, mlp), else 16. chunk: how many of them are fused at a time; by default as many as
    memory holds. memory: the GB that a pack's trained weights, gradients and optimiser state may
    take, which limits packs of methods that train much (full, partial).
    """

    size: int | None = Field(None, ge=1)
    chunk: int | None = Field(None, ge=1)
    memory: float = Field(MEMORY, gt=0)


def _amount_or_auto(found: Any) -> float | Literal["auto"]:
    """`auto`, or a finite number of at least 0."""
    if found == "auto":
        return "auto"
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < math.inf:
        return float(found)
    raise PydanticCustomError("gpus", "auto, or a number of at least 0")


class ResourcesSpec(_Part):
    """The resources that one pack requests from Ray, and its retries after a worker's death.

    gpu: auto is 1 where the cluster has GPUs or could add some, else 0.
    """

    cpu: float = Field(1, gt=0)
    gpu: Annotated[float | Literal["auto"], PlainValidator(_amount_or_auto)] = "auto"
    max_failures: int = Field(2, ge=0)


class WandbSpec(_Part):
    """Where runs are logged. mode auto: online if there are credentials, else offline.

    alert: whether the end of `run` is told through W&B, by e-mail or Slack as its user has set.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None
    entity: str | None = None
    alert: bool = False


class BackboneSpec(_Part):
    """A backbone given in full; a plain string in the sweep file is a timm model name."""

    name: str
    model: str
    weights: str = "timm"
    args: dict[str, Any] = {}
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def with_absolute_path(self) -> "BackboneSpec":
        """The same, its weights found from any working folder."""
        if self.weights in ("timm", "random"):
            return self
        return self.model_copy(update={"weights": str(Path(self.weights).absolute())})

    def backbone(self) -> Backbone:
        """This backbone as arc_train's value."""
        if self.model == ARC_PICO.name:
            return ARC_PICO
        return Backbone(**self.model_dump())


class Spec(_Part):
    """A sweep."""

    name: str = Field(pattern=NAME)
    tasks: list[str | TaskSpec] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    backbones: list[BackboneSpec] = Field(min_length=1)
    seed: int = Field(0, ge=0)
    search: SearchSpec = SearchSpec()
    selection: SelectionSpec = SelectionSpec()
    training: TrainingSpec = TrainingSpec()
    finals: FinalsSpec = FinalsSpec()
    protocol: ProtocolSpec = ProtocolSpec()
    data: DataSpec = DataSpec()
    pack: PackSpec = PackSpec()
    resources: ResourcesSpec = ResourcesSpec()
    wandb: WandbSpec = WandbSpec()
    storage: str = "results"

    def space(self, method: str) -> Space:
        """The method's recommended space with this sweep's overrides."""
        return space_of(method, self.search.space.get(method, {}))

    def study_space(self, study: Study) -> Space:
        """The space of one study: its method's, with what is fixed in it."""
        fixed = self.search.fixed.get(str(study), {})
        return space_of(study.method, {**self.search.space.get(study.method, {}), **fixed})

    def backbone(self, name: str) -> Backbone:
        """The sweep's backbone of this name, as results have it."""
        return next(entry for entry in self.backbones if entry.name == name).backbone()

    def with_absolute_weights(self) -> "Spec":
        """The same for a worker, whose working folder may be another."""
        backbones = [entry.with_absolute_path() for entry in self.backbones]
        return self.model_copy(update={"backbones": backbones})

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """All studies, in blocks by task, so that a node's cache of a task stays warm."""
        return tuple(
            Study(backbone.name, method, task)
            for task in self.catalog
            for backbone in self.backbones
            for method in self.methods
        )

    @cached_property
    def catalog(self) -> dict[str, Task]:
        """The sweep's tasks by key, in its order; of one that is no longer known, the name."""
        known = catalog()
        tasks = (
            entry.task
            if isinstance(entry, TaskSpec)
            else known.get(entry) or Task(entry, entry, entry.split("/")[0])
            for entry in self.tasks
        )
        return {task.key: task for task in tasks}

    @property
    def gpus(self) -> float:
        """The GPUs that a pack requests, once the driver has seen the cluster."""
        assert self.resources.gpu != "auto"
        return self.resources.gpu

    def with_gpus(self, gpus: float) -> "Spec":
        """The same with so many GPUs for each pack."""
        resources = self.resources.model_copy(update={"gpu": gpus})
        return self.model_copy(update={"resources": resources})

    @property
    def place(self) -> str:
        """The sweep's folder, `<storage>/<name>`, or the same as a URI in object storage."""
        if is_remote(self.storage):
            return below(self.storage, self.name)
        return str(Path(self.storage).expanduser() / self.name)

    @property
    def data_root(self) -> Path | None:
        """The folder that holds the tasks' folders."""
        return Path(self.data.root).expanduser() if self.data.root else None

    @property
    def draw(self) -> Draw:
        """How images are drawn from data sets without lists."""
        return Draw(self.data.draw == "stratified", self.data.draw_seed)

    @property
    def cache_folder(self) -> Path:
        """The node's cache of decoded images."""
        return Path(self.data.cache).expanduser() if self.data.cache else default_folder()
