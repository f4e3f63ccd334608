"""What packing is worth: T trials as one batched computation against the same trials one by one.

Both are measured in turns in one run, so that other load hits both; beside them stands the rate of
a plain matrix product on the same device, which no training step can exceed.

    python benchmarks/packs.py                                   # arc_pico on the CPU
    python benchmarks/packs.py --model vit_base_patch16_224 --device cuda --trials 16
"""

import argparse
import statistics
from functools import partial

import torch
from measure import CLASSES, matmul_rate, members, seconds
from torch.utils.flop_counter import FlopCounterMode

from arc_train import backbones
from arc_train.backbones import ARC_PICO, Backbone
from arc_train.pack import Pack

METHODS = ("linear", "arc", "lora", "vpt_deep", "adapter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=ARC_PICO.name, help="arc_pico or a timm name")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    spec = ARC_PICO
    if options.model != ARC_PICO.name:
        spec = Backbone(options.model, options.model, "random")
    backbone = backbones.build(spec).to(device)
    side = backbones.input_size(backbone)
    images = torch.randn(options.batch, 3, side, side, device=device)
    labels = torch.randint(CLASSES, (options.batch,), device=device)
    limit = matmul_rate(device)
    print(f"{options.model}, {options.trials} trials, batch {options.batch}, {device}")
    print(f"matrix product: {limit / 1e12:.2f} TFLOP/s")
    print("method      ms/trial-step packed   one by one   ratio   of the product's rate, packed")
    for method in options.methods:
        packed, separate = (
            Pack(backbone, method, CLASSES, members(method, options.trials), chunk=chunk)
            for chunk in (options.trials, 1)
        )
        frozen = packed.method.trains != "blocks"
        inputs = packed.model.frozen(images) if frozen else images
        schedules = [pack.schedule([1.0]) for pack in (packed, separate)]
        steps = [
            partial(pack.train_step, inputs, labels, schedule.clocks[0], schedule.seeds[0], frozen)
            for pack, schedule in zip((packed, separate), schedules, strict=True)
        ]
        with FlopCounterMode(display=False) as counter:
            steps[1]()
        steps[0]()
        times = [[seconds(step, device) for step in steps] for _ in range(options.rounds)]
        fused, single = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        share = counter.get_total_flops() / fused / limit
        per = 1e3 / options.trials
        print(f"{method:10} {fused * per:22.2f} {single * per:12.2f} {ratio:7.2f} {share:8.0%}")


if __name__ == "__main__":
    main()
