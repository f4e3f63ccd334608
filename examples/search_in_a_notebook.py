"""Search hyperparameters, then fine-tune with the best, in a notebook: no sweep file, no cluster.

python examples/search_in_a_notebook.py

A notebook's cells begin at the lines with %%.
"""

# %% Images and labels: a data set of torch or of Hugging Face, or a pair of tensors
import torch

import arc_train
from arc_train.backbones import ARC_PICO, build
from arc_train.tasks.drawn import draw

train, val, test = (
    tuple(torch.from_numpy(part)[:400] for part in draw("demo/digits", split))
    for split in ("train800", "val200", "test")
)

# %% Any timm ViT or Swin: timm.create_model("vit_base_patch16_224.augreg_in21k", pretrained=True)
model = build(ARC_PICO)

# %% The search chooses on the validation images; Ctrl-C keeps what is done
found = arc_train.search(
    model, train, val, method="arc", trials=4, epochs=4, space={"rank": [4, 8]}, progress=print
)
print(found)

# %% Train the winner on train + val under two seeds; test each once, after its last epoch
final = arc_train.finetune(model, train, val, test, config=found.config, epochs=4, seeds=(0, 1))
print(final)

# %% A plain timm model with the same logits
plain = arc_train.fold(final.model)
print(f"{type(plain).__name__} with {plain.num_classes} classes")
