"""ipex.quantization: only its CPU build quantises by itself (quantization/__init__.py)."""
