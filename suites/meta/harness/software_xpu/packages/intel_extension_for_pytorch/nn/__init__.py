"""ipex.nn (nn/__init__.py)."""

from . import modules, utils  # noqa: F401
