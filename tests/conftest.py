"""One thread for torch: tests share two cores with Ray's workers, and spinning threads starve them."""

import torch

torch.set_num_threads(1)
