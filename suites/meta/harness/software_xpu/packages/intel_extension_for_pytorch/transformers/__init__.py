"""ipex.transformers (transformers/__init__.py)."""
