"""One thread for torch: tests share the cores with Ray's workers, which spinning would starve."""

import torch

torch.set_num_threads(1)
