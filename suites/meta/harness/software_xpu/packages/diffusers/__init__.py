"""Stands for the package that `ipex.llm.optimize` imports whatever it optimises."""
