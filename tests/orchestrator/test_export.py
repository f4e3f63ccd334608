"""Winners on the hub: what is sent, what its card says, and that others load it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import load

from arc_train import adapt, adapter_state, load_adapter
from arc_train.adaptation import trainable
from orchestrator.spec import dump, resolve
from orchestrator.store.adapter import adapter_bytes
from orchestrator.store.folder import SweepFolder
from tests.hub import Hub
from tests.results import final, result
from tests.sweeps import CANARY

ARGUMENTS = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}
TINY = {"name": "tiny", "model": "vit_tiny_patch16_224", "weights": "random", "args": ARGUMENTS}
CONFIGS: dict[str, dict[str, Any]] = {
    "arc": {"lr": 0.01, "weight_decay": 0.0, "rank": 3, "dropout": 0.0},
    "lora": {"lr": 0.01, "weight_decay": 0.0, "rank": 3, "scale": 0.5},
}


# As the card says, where this project is not.
LOADED = (
    "import timm; model = timm.create_model('hf-hub:someone/beans', pretrained=True); "
    "print(model.num_classes)"
)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A sweep's folder with one study a method, each with two finals."""
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.create()
    raw = {"name": "x", "tasks": ["demo/digits"], "methods": list(CONFIGS), "backbones": [TINY]}
    spec = resolve(raw, "x")
    sweep.write_spec(dump(spec))
    torch.manual_seed(0)
    for method, config in CONFIGS.items():
        known: dict[str, Any] = {"backbone": "tiny", "method": method, "task": "demo/digits"}
        sweep.write_result(result(f"{method}-search", config=config, val_accuracy=88.5, **known))
        model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **ARGUMENTS)
        hyper = {key: value for key, value in config.items() if key not in ("lr", "weight_decay")}
        adapted = adapt(model, method, 10, **hyper)
        for parameter in trainable(adapted).values():
            torch.nn.init.normal_(parameter, std=0.1)
        for seed, accuracy in ((0, 91.0), (1, 93.0)):
            trial = f"{method}-{seed}"
            sweep.write_result(final(seed, accuracy, trial=trial, config=config, **known))
            state = {name: t.contiguous() for name, t in adapter_state(adapted).items()}
            (sweep.adapters / f"{trial}.safetensors").write_bytes(adapter_bytes(state, known))
    return sweep


def export(
    folder: SweepFolder, hub: str, *words: str, token: str = CANARY
) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own: the hub's client reads its variables when imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token}
    environment["HF_HOME"] = str(folder.path / "no token here")
    command = [sys.executable, "-m", "orchestrator.cli", "export", str(folder.path), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def sent(hub: Hub, name: str) -> dict[str, bytes]:
    start = f"/{name}/resolve/main/"
    return {p.removeprefix(start): content for p, content in hub.files.items() if start in p}


def test_a_winner_is_sent_with_a_card_whose_metadata_have_its_numbers(folder: SweepFolder) -> None:
    with Hub({}, token=CANARY) as hub:
        done = export(folder, hub.url, "tiny/arc/demo/digits", "--push", "someone/beans", "--fold")
        assert done.returncode == 0, done.stderr
        files = sent(hub, "someone/beans")
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder.path / "cache")}
        command = [sys.executable, "-I", "-c", LOADED]
        environment |= {"HF_HUB_OFFLINE": "0"}
        loaded = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert loaded.stdout.split() == ["10"], loaded.stderr
    assert files.keys() == {"README.md", "model.safetensors", "config.json"}
    _, metadata, body = files["README.md"].decode().split("---\n", 2)
    card = yaml.safe_load(metadata)
    (about,) = card["model-index"]
    (measured,) = about["results"]
    values = {metric["value"] for metric in measured["metrics"]}
    assert values == {91.0, 92.0}  # of this seed, and the mean
    assert measured["dataset"]["revision"] == "f"  # the images' fingerprint
    assert card["library_name"] == "timm"
    for said in ("91.0, 93.0", "88.5 %", "rank 3", "seed 0", "train+val", "fingerprint `f`"):
        assert said in body
    assert "hf-hub:someone/beans" in body
    everything = [done.stdout, done.stderr, *(str(content) for content in files.values())]
    assert not any(CANARY in text for text in everything)
    written = (p for p in folder.path.rglob("*") if p.is_file())
    assert not any(CANARY.encode() in path.read_bytes() for path in written)


def test_nothing_is_sent_without_being_asked_for(folder: SweepFolder, tmp_path: Path) -> None:
    with Hub({}, token=CANARY) as hub:
        done = export(folder, hub.url, "tiny/arc/demo/digits", "-o", str(tmp_path / "out"))
        assert (done.returncode, hub.posts) == (0, [])
    assert (tmp_path / "out/README.md").exists()


@pytest.mark.parametrize(
    ("words", "token", "told"),
    [
        (["--push", "someone/beans"], "another", "don't have the rights"),
        (["--push", "someone/beans"], "", "needs a token"),
        (["--push", "beans"], CANARY, "expected USER/NAME"),
        ([], CANARY, "give a folder"),
    ],
)
def test_what_cannot_be_sent_ends_in_one_line(
    folder: SweepFolder, words: list[str], token: str, told: str
) -> None:
    with Hub({}, token=CANARY) as hub:
        done = export(folder, hub.url, "tiny/arc/demo/digits", *words, token=token)
        assert not hub.files
    assert done.returncode == 2
    assert told in done.stderr
    assert (done.stderr.count("\n"), "Traceback" in done.stderr) == (1, False)


def test_peft_loads_a_lora_with_the_same_logits(folder: SweepFolder, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    out = tmp_path / "out"
    done = export(folder, "http://127.0.0.1:9", "tiny/lora/demo/digits", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "PeftModel.from_pretrained" in (out / "README.md").read_text()
    torch.manual_seed(1)
    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=10, **ARGUMENTS)
    theirs = peft.PeftModel.from_pretrained(backbone, out).eval()
    fresh = timm.create_model("vit_tiny_patch16_224", num_classes=10, **ARGUMENTS)
    plain = {key: value for key, value in backbone.state_dict().items() if "lora" not in key}
    plain = {key.replace("base_layer.", ""): value for key, value in plain.items()}
    fresh.load_state_dict({k: v for k, v in plain.items() if k in fresh.state_dict()}, strict=False)
    ours = adapt(fresh, "lora", 10, rank=3, scale=0.5).eval()
    load_adapter(ours, load((out / "adapter.safetensors").read_bytes()))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert (theirs(images) - ours(images)).abs().max() < 1e-5
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 6
