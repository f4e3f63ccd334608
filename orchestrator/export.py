"""Exports what a study learned: its adapter, or a plain timm model with the adapter folded in."""

import difflib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from timm.models import get_pretrained_cfg

from arc_train import NotFoldable, adapt, backbones, fold, load_adapter
from arc_train.backbone import ARC_PICO, Backbone
from arc_train.errors import InputError
from arc_train.hyperparameters.space import format_config
from arc_train.pack import of_the_method
from arc_train.peft_format import CONFIG, WEIGHTS, peft_lora
from arc_train.tasks.transform import transform
from orchestrator import contents
from orchestrator.contents import Contents
from orchestrator.leaderboard.tested import spread
from orchestrator.model_card import Card
from orchestrator.search.selection import Candidate, finals, select
from orchestrator.spec import Spec
from orchestrator.store.adapter import read_adapter
from orchestrator.store.atomic import write_atomically
from orchestrator.store.folder import SweepFolder
from orchestrator.store.result import Result, Study, plain_result


@dataclass(frozen=True)
class Exported:
    """Where the export lies, what it is, in words, and its files."""

    path: Path
    what: str
    files: tuple[str, ...]


def export(
    folder: str,
    study: str,
    out: Path,
    seed: int | None,
    folded: bool,
    repository: str | None = None,
) -> Exported:
    """Write a study's winner, as refitted under one seed, into the folder `out`.

    `adapter.safetensors` with `adapter.json` (study, configuration, accuracies), for `lora` beside
    peft's files, or, with `folded`, a checkpoint in the layout of timm's `local-dir:`. README.md is
    its model card; repository: the one on the hub that the card says it is loaded from.

    Raises:
        InputError: no such sweep, study or final, or a method that doesn't fold.
    """
    sweep = SweepFolder(folder)
    found = contents.read(sweep)
    chosen = _study(found, study)
    final = _final(found, chosen, seed)
    source = sweep.adapter(final.id)
    adapter = read_adapter(source)
    backbone = found.backbones.get(chosen.backbone)
    if folded and (found.spec is None or backbone is None):
        raise InputError(f"--fold: {sweep.spec} names the backbone, and can't be read")
    files = {}
    if folded and found.spec and backbone:
        files = _folded(found.spec, backbone, final, adapter)
    else:
        about = {**plain_result(final), "backbone": backbone and asdict(backbone)}
        files["adapter.safetensors"] = source.read_bytes()
        files["adapter.json"] = json.dumps(about, indent=1).encode()
        if final.method == "lora" and backbone:
            files |= _peft(backbone, final, adapter)
    if found.spec and backbone:
        library = "timm" if folded else "peft" if CONFIG in files else "arc-sweep"
        card = _card(found, found.spec, backbone, final, adapter, library, out, repository)
        files["README.md"] = card.text().encode()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise InputError(f"can't write {out}: {error.strerror}") from error
    config = format_config(final.config)
    kind = "plain timm model" if folded else "adapter"
    what = f"{kind} of {chosen}, {config}, seed {final.seed}"
    return Exported(out, f"{what}, test accuracy {final.test_accuracy:.1f} %", tuple(files))


def _study(found: Contents, name: str) -> Study:
    known = {str(study): study for study in found.studies}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"no study {name!r} in this sweep{hint}; it has: {', '.join(known)}")
    return known[name]


def _final(found: Contents, study: Study, seed: int | None) -> Result:
    """The winner's final under the seed, or under the first one that there is."""
    own = [result for result in found.results.values() if result.study == study]
    by_seed = {final.seed: final for final in finals(own, select(map(Candidate.of, own)))}
    if not by_seed:
        raise InputError(f"study {study} has no finished final yet: run the sweep to its end")
    if seed is None:
        seed = next(s for s in (*found.seeds, *by_seed) if s in by_seed)
    if seed not in by_seed:
        has = ", ".join(map(str, sorted(by_seed)))
        raise InputError(f"study {study} has no final of seed {seed}; it has {has}")
    return by_seed[seed]


def _card(
    found: Contents,
    spec: Spec,
    backbone: Backbone,
    final: Result,
    adapter: dict[str, Any],
    library: str,
    out: Path,
    repository: str | None,
) -> Card:
    own = [result for result in found.results.values() if result.study == final.study]
    winner = select(map(Candidate.of, own))
    tested = {r.seed: r.test_accuracy for r in finals(own, winner) if r.test_accuracy is not None}
    test = spread([tested[seed] for seed in sorted(tested)])
    assert test is not None  # since there is a final
    published = get_pretrained_cfg(backbone.model) if backbone.weights == "timm" else None
    place = repository or str(out)
    if library == "timm":
        place = f"hf-hub:{repository}" if repository else f"local-dir:{out}"
    return Card(
        library=library,
        place=place,
        backbone=backbone,
        final=final,
        test=test,
        val_accuracy=winner.val_accuracy if winner else None,
        final_on=spec.protocol.final_on,
        classes=len(adapter["head.weight"]),
        hyper=of_the_method(final.config),
        licence=_licence(backbone, published),
        hub_name=(published.hf_hub_id or None) if published else None,
    )


def _licence(backbone: Backbone, published: Any) -> str | None:
    """Of the weights: this project's own of the embedded ones, else as timm has it."""
    if backbone == ARC_PICO:
        return "apache-2.0"
    return (published.license or None) if published else None


def _peft(backbone: Backbone, final: Result, adapter: dict[str, Any]) -> dict[str, bytes]:
    """The files of peft's format."""
    rank, scale = int(final.config["rank"]), float(final.config.get("scale", 1.0))
    model = backbones.build(backbone)
    model.reset_classifier(len(adapter["head.weight"]))  # type: ignore[operator]
    tensors, config = peft_lora(model, adapter, rank, scale)
    return {WEIGHTS: save(tensors), CONFIG: json.dumps(config, indent=1).encode()}


def _folded(
    spec: Spec, backbone: Backbone, final: Result, adapter: dict[str, Any]
) -> dict[str, bytes]:
    """The files of a plain checkpoint."""
    model = backbones.build(backbone)
    mean, std = backbones.statistics(backbone, model, spec.data.normalise)
    task = spec.catalog[final.task]
    classes = len(adapter["head.weight"])
    before = set(model.state_dict())
    hyper: dict[str, Any] = of_the_method(final.config)
    adapted = adapt(model, final.method, classes, **hyper).eval()
    load_adapter(adapted, adapter)
    try:
        plain = fold(adapted)
    except NotFoldable as error:
        raise InputError(
            f"{final.method} can't be folded: {error}; export it without --fold"
        ) from error
    arguments = dict(backbone.args)
    if any(name.endswith("attn.qkv.bias") for name in set(plain.state_dict()) - before):
        arguments["qkv_bias"] = True
    configuration = {
        "architecture": backbone.model.split(".")[0],
        "num_classes": classes,
        "num_features": model.num_features,
        "model_args": arguments,
        "pretrained_cfg": {
            **transform(task, backbones.input_size(model)).timm(),
            "mean": mean,
            "std": std,
            "num_classes": classes,
            "first_conv": model.pretrained_cfg.get("first_conv"),  # type: ignore[union-attr, operator]
            "classifier": model.pretrained_cfg.get("classifier"),  # type: ignore[union-attr, operator]
        },
    }
    if final.data.class_names:
        configuration["label_names"] = list(final.data.class_names)
    weights = {name: tensor.contiguous() for name, tensor in plain.state_dict().items()}
    return {
        "model.safetensors": save(weights),
        "config.json": json.dumps(configuration, indent=1).encode(),
    }
