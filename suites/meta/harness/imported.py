"""A pytest plugin for inner runs: which slow packages are in memory once tests are collected."""

import sys

# Each takes from half a second to ten to import.
SLOW = ("torch", "transformers", "intel_extension_for_pytorch", "deepspeed", "neural_compressor", "lm_eval", "datasets")
SLOW += ("scipy.stats", "scipy.special", "hypothesis", "huggingface_hub", "requests", "pandas", "sklearn")


def pytest_report_collectionfinish():
    return f"slow imports: {', '.join(name for name in SLOW if name in sys.modules) or 'none'}"
