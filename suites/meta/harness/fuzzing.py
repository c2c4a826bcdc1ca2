"""Tests with spoilt files. Hypothesis is imported when the first of them runs, since collecting need not wait for it.

XPU_LLM_CTS_FUZZ=N tries N mutations for each reader, by chance anew each time; `make fuzz` does 5000.
"""

import importlib
import os

from suites.meta.harness.inner import ROOT

DEEP = int(os.environ.get("XPU_LLM_CTS_FUZZ", "0"))


def fuzz(kind, content, attempt):
    """Call `attempt(bytes)` with mutations of `content`; `kind` is a function of suites/meta/faults/files.py."""
    hypothesis = importlib.import_module("hypothesis")
    mutations = importlib.import_module("suites.meta.faults.files")
    hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".pytest_cache" / "hypothesis")
    check = hypothesis.HealthCheck
    settings = hypothesis.settings(
        max_examples=DEEP or 25,
        derandomize=not DEEP,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[check.too_slow, check.data_too_large],
    )

    @settings
    @hypothesis.given(getattr(mutations, kind)(content))
    def spoilt(mutated):
        attempt(mutated)

    spoilt()
