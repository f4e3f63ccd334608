"""The card of an exported model: README.md, whose metadata let the hub show its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arc_train.backbone import ARC_PICO, Backbone
from arc_train.hyperparameters.space import format_config
from orchestrator.leaderboard.board import Spread
from orchestrator.store.result import Result

# In three lines each; what stands in braces is filled in.
LOADING = {
    "timm": """import timm
model = timm.create_model("{place}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))""",
    "peft": """{imports}
from peft import PeftModel
model = PeftModel.from_pretrained({backbone}, "{place}").eval()""",
    "arc-sweep": """{imports}
from arc_train import adapt, load_adapter; from safetensors.torch import load_file
model = adapt({backbone}, "{method}", {classes}{hyper})
load_adapter(model, load_file("adapter.safetensors"))""",
}


@dataclass(frozen=True)
class Card:
    """What a card is made from.

    library: timm (a folded model), peft or arc-sweep. place: what the loading lines name.
    winner: the study's, as its search found it; test: of all its finals. val_accuracy: the
    winner's. licence: of the backbone, as timm has it; None where it isn't known. hub_name: of the
    backbone's weights on the hub.
    """

    library: str
    place: str
    backbone: Backbone
    final: Result
    test: Spread
    val_accuracy: float | None
    final_on: str
    classes: int
    hyper: Mapping[str, Any]
    licence: str | None
    hub_name: str | None

    def text(self) -> str:
        """The card."""
        return f"---\n{self._metadata()}\n---\n\n{self._body()}"

    def _metadata(self) -> str:
        from huggingface_hub import EvalResult, ModelCardData  # slow to import

        final = self.final
        metric = final.data.metric or "accuracy"
        name = f"{final.backbone}, {final.method}, {final.task}"

        def result(value: float, what: str) -> EvalResult:
            return EvalResult(
                task_type="image-classification",
                dataset_type=final.task,
                dataset_name=final.task,
                dataset_split="test",
                dataset_revision=final.data.fingerprint,
                metric_type=metric,
                metric_value=round(value, 2),
                metric_name=what,
            )

        results = [result(final.test_accuracy or 0.0, f"{metric} in %, seed {final.seed}")]
        if self.test.n > 1:
            results.append(result(self.test.mean, f"{metric} in %, mean of {self.test.n} seeds"))
        data = ModelCardData(
            library_name=self.library,
            license=self.licence,
            base_model=self.hub_name,
            pipeline_tag="image-classification",
            tags=["image-classification", "arc-sweep", final.method],
            model_name=name,
            eval_results=results,
        )
        return str(data.to_yaml()).strip()

    def _body(self) -> str:
        final, test = self.final, self.test
        unit = final.data.metric or "accuracy"
        interval = (
            "" if test.ci95 is None else f", 95 % interval {test.ci95[0]:.1f} to {test.ci95[1]:.1f}"
        )
        seeds = ", ".join(f"{value:.1f}" for value in test.seeds)
        facts = [
            ("method", f"`{final.method}`: {format_config(final.config)}"),
            ("backbone", f"`{final.backbone}` ({self._weights()})"),
            ("licence of the backbone", self.licence or "not known to timm: see its source"),
            ("trained parameters", f"{final.trainable_params:,}"),
            ("images", f"{final.data.variant}, fingerprint `{final.data.fingerprint}`"),
            ("made with", f"arc-sweep {final.code.version}, {self._packages()}"),
        ]
        table = "\n".join(f"| {name} | {value} |" for name, value in facts)
        return f"""# {final.method} on {final.task}

Test {unit} of this model (seed {final.seed}): **{final.test_accuracy:.1f} %**. Over {test.n} \
{"seed" if test.n == 1 else "seeds"} ({seeds}): {test.mean:.1f} %{interval}.

| | |
|---|---|
{table}

## How it was found

The configuration was chosen by validation accuracy alone\
{"" if self.val_accuracy is None else f" ({self.val_accuracy:.1f} %)"}. It was trained again on \
{self.final_on} for {final.epochs_run} epochs under each seed, and each was tested once, after its \
last epoch. An interval over seeds doesn't cover that other test images would give other numbers.

## Loading

```python
{self._loading()}
```

Images: {final.data.transform or "resized as the backbone takes them"}, normalised with \
{self._statistics()}.
"""

    def _weights(self) -> str:
        weights = self.final.weights
        if weights is None:
            return self.backbone.weights
        revision = f", revision `{weights.revision}`" if weights.revision else ""
        digest = f", SHA-256 `{weights.sha256[:16]}…`" if weights.sha256 else ""
        return f"{weights.source}{revision}{digest}"

    def _packages(self) -> str:
        packages = self.final.packages
        return ", ".join(
            f"{name} {packages[name]}" for name in ("torch", "timm") if name in packages
        )

    def _statistics(self) -> str:
        weights = self.final.weights
        if weights is None:
            return "the backbone's mean and standard deviation"
        return f"mean {_plain(weights.mean)} and standard deviation {_plain(weights.std)}"

    def _loading(self) -> str:
        imports, backbone = "import timm", f'timm.create_model("{self.backbone.model}"'
        arguments = "".join(f", {name}={value!r}" for name, value in self.backbone.args.items())
        backbone += f", pretrained={self.backbone.weights == 'timm'}{arguments}"
        backbone += f", num_classes={self.classes})" if self.library == "peft" else ")"
        if self.backbone == ARC_PICO:
            imports = "from arc_train import backbones; from arc_train.backbone import ARC_PICO"
            backbone = "backbones.build(ARC_PICO)"
        hyper = "".join(f", {name}={value!r}" for name, value in self.hyper.items())
        lines = LOADING[self.library].format(
            place=self.place,
            imports=imports,
            backbone=backbone,
            method=self.final.method,
            classes=self.classes,
            hyper=hyper,
        )
        own_file = self.backbone.weights not in ("timm", "random") and self.backbone != ARC_PICO
        if self.library != "timm" and own_file:
            lines += "\n# The backbone's weights are a file of their own: load them first."
        return lines


def _plain(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
