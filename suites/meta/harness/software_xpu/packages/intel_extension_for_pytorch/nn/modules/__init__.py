"""ipex.nn.modules: neural-compressor imports the CPU build's linear when it saves a model (nn/modules)."""

import torch


class WeightOnlyQuantizedLinear(torch.nn.Module):
    """The CPU build's linear, of which a model on a card holds none."""
