"""ipex.llm (llm/__init__.py)."""

from ..transformers.optimize import optimize  # noqa: F401
