"""What this host has arithmetic for by the matrix. IPEX's bf16 wants AVX-512, which not every x86 host has."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.system.fingerprint import cpu_flags

_MISSING = load_matrix().platform("cpu").missing("bf16", cpu_flags())
HAS_BF16 = not _MISSING
PRECISIONS = ("fp32", "bf16") if HAS_BF16 else ("fp32",)
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason=f"bf16 on cpu needs a CPU with {' or '.join(_MISSING)}")


def possible(cells):
    """Those of the host's cells that it has the arithmetic for, in their order."""
    return [cell for cell in cells if HAS_BF16 or "-bf16-" not in cell]


def parameters(cells):
    """All of the host's cells as parameters of a test that is skipped for the others."""
    return [pytest.param(cell, marks=needs_bf16 if "-bf16-" in cell else ()) for cell in cells]


def of_faults(faults):
    """Faults of the registry as parameters of a test, cell by cell, so that a model is loaded once."""
    marks = {fault.name: needs_bf16 if "-bf16-" in fault.cell else () for fault in faults}
    ordered = sorted(faults, key=lambda fault: (fault.cell, fault.suite))
    return [pytest.param(fault, id=fault.name, marks=marks[fault.name]) for fault in ordered]
