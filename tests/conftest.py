"""Common to all tests: one thread, so that timing-free tests are also free of the machine's size."""

import torch

torch.set_num_threads(1)
