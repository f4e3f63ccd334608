"""`finetune`: one configuration under some seeds, in a notebook, as the finals of a sweep."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from arc_train.errors import InputError
from arc_train.outcome import Outcome
from arc_train.pack import Member
from arc_train.seeding import seed_of
from arc_train.study import Statistics, Study
from arc_train.study_result import Final, Finetuned, Progress
from arc_train.tasks.catalog import Augment, Resize
from arc_train.tasks.in_memory import join


def finetune(
    model: nn.Module,
    train: Any,
    val: Any = None,
    test: Any = None,
    method: str = "arc",
    *,
    config: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    epochs: int = 100,
    batch_size: int = 32,
    resize: Resize | None = None,
    augment: Augment = "none",
    num_classes: int | None = None,
    normalise: Statistics | None = None,
    allow_overlap: bool = False,
    device: str | torch.device | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Finetuned:
    """Train with one configuration on train and val together; test once, after the last epoch.

    Args:
        val: more images to train on, as the winner of a search is refitted on train and val.
        test: images that neither a search nor this training has seen; tested once for each seed.
        config: such as a search's winner; what it lacks is as the method recommends.
        seeds: each draws another initialisation, dropout and order of batches.

    The rest is as for `search`.

    Raises:
        InputError: a model, data or values that can't be used; the message says what to do.
    """
    study = Study(model, method, epochs, batch_size, resize, augment, normalise, device)
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be at least one, each another, found {list(seeds)}")
    given = {"train": train, "val": val, "test": test}
    given = {name: data for name, data in given.items() if data is not None}
    chosen = study.complete(config or {})
    data = study.read(given, num_classes, allow_overlap)
    whole = join(data["train"], data["val"]) if "val" in data else data["train"]
    members = [Member(str(seed), chosen, seed_of(seed, "finetune")) for seed in seeds]
    orders = [seed_of(seed, "finetune order") for seed in seeds]
    run = study.pack(members, orders, whole)
    ended: dict[str, Outcome] = {}
    while not run.done:
        ended |= {outcome.id: outcome for outcome in run.run_epoch()}
        if progress:
            alive = 0 if run.done else len(run.pack.members)
            progress(Progress(len(ended), len(seeds), run.epoch, epochs, alive, None))
    left = [member.id for member in run.pack.members]
    tested = dict(zip(left, run.predict(data["test"]), strict=True)) if "test" in data else {}
    finals = []
    for seed in seeds:
        outcome = ended[str(seed)]
        trained = outcome.status == "done"
        answers = tested.get(outcome.id)
        loss = float(answers.loss.mean()) if answers else None
        accuracy = answers.accuracy if answers else None
        module = study.adapted(chosen, run.pack.state(left.index(outcome.id))) if trained else None
        finals.append(Final(seed, outcome.status, accuracy, loss, outcome.curve, module))
    return Finetuned(
        method,
        chosen,
        tuple(finals),
        len(whole),
        len(data["test"]) if "test" in data else 0,
        outcome.trainable_params,
        outcome.adapter_params,
    )
