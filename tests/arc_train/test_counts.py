"""Counts beside the published ones: equal in the printed digits, or different for a reason."""

import pytest

from arc_train.methods.counts import Count, counts

ALL = counts()


@pytest.mark.parametrize(
    ("backbone", "method", "benchmark", "count"),
    [
        ("ViT-B/16", "arc", "vtab", 134_477),
        ("ViT-B/16", "arc_att", "vtab", 86_261),
        ("ViT-B/16", "arc", "fgvc", 276_839),
        ("ViT-B/16", "arc_att", "fgvc", 228_623),
        ("Swin-B", "arc", "vtab", 269_175),
        ("Swin-B", "arc_att", "vtab", 159_943),
        ("ViT-L/16", "arc", "vtab", 204_663),
        ("ViT-H/14", "arc", "vtab", 276_496),
        ("ViT-B/16", "lora", "fgvc", 438_455),
    ],
)
def test_means_over_the_tasks(backbone: str, method: str, benchmark: str, count: int) -> None:
    (found,) = [c for c in ALL if (c.backbone, c.method) == (backbone, method)]
    assert round(getattr(found, benchmark)) == count


@pytest.mark.parametrize("count", ALL, ids=lambda count: f"{count.backbone} {count.method}")
def test_a_printed_figure_agrees_or_has_a_note(count: Count) -> None:
    for benchmark, printed in count.published.items():
        digits = len(printed.partition(".")[2])
        ours = round(getattr(count, benchmark) / 1e6, digits)
        agrees = abs(ours - float(printed)) < 0.5 * 10**-digits
        assert agrees == (benchmark not in count.notes), (benchmark, ours, printed)
