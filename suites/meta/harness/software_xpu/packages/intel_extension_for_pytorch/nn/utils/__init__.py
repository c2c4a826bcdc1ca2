"""ipex.nn.utils (nn/utils/__init__.py)."""
