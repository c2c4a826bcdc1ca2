"""ipex.utils (utils/__init__.py)."""
