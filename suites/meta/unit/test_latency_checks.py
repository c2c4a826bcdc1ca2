"""What a timing says of how its two models were run."""

import types

import pytest

from fixtures.checks.latency import cache_of_stock


@pytest.mark.parametrize(("device_type", "mine", "stock", "lines"), [
    ("xpu", True, True, 0),
    ("xpu", True, False, 1),
    ("cuda", True, False, 0),  # both are timed with the dynamic cache
    ("cpu", True, False, 0),
])  # fmt: skip
def test_stock_timed_with_another_cache_is_said(device_type, mine, stock, lines):
    platform = types.SimpleNamespace(device_type=device_type)
    measured = types.SimpleNamespace(
        cell=types.SimpleNamespace(platform=platform),
        proofs=[{"static_cache": mine}],
        stock_proof={"static_cache": stock},
    )
    assert len(cache_of_stock(measured)) == lines
    assert all("dynamic cache" in line.measured for line in cache_of_stock(measured))
