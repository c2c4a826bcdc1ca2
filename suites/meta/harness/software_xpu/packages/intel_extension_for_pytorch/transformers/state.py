"""What IPEX keeps once per process, on classes, and what it reads at import."""

import os

# transformers/models/xpu/optimize_transformers/modules/Layers.py: EnvParam reads the variable when it is imported.
ACC_TEST = os.environ.get("LLM_ACC_TEST", "OFF").upper() in ("1", "ON", "Y", "YES", "TRUE")


class IPEXAttention:
    """Class variables of modules/transformer_modules: BaseAttention.py, NaiveAttention.py, XPUAttentionfp16.py."""

    cache_type = None  # of the first call of the process: "static" or "dynamic"
    batch_size = 1  # of the latest generate()
    beam_idx = None  # of the latest static beam search; nothing resets it
