"""What other suites' rules say of numbers that are known, and the page that is written of them."""

import numpy as np
import pytest

from suites.meta.studies.rules import alarms, rules, values
from suites.meta.studies.sharpness import GRADED, Study, graded, variants
from suites.meta.studies.sharpness_page import explained, page, plot

STOCK = np.random.default_rng(3).normal(0, 3, (4, 12, 40))
TOKENS = STOCK.argmax(-1)


def test_equal_logits_break_no_rule():
    found = values(STOCK, STOCK, TOKENS)
    assert set(found) == set(rules())
    assert alarms(found) == set()


def test_each_rule_can_fail():
    other = np.random.default_rng(4).normal(0, 3, STOCK.shape)
    assert alarms(values(other, STOCK, TOKENS)) == set(rules())
    assert alarms(values(np.full_like(STOCK, np.nan), STOCK, TOKENS)) == set(rules())


def test_a_small_error_breaks_only_the_strict_rules():
    noisy = STOCK + np.random.default_rng(5).normal(0, 2e-3, STOCK.shape)
    assert alarms(values(noisy, STOCK, TOKENS)) == {"nmse"}


def test_three_hundred_unbroken_cells_can_be_had():
    cells = [f"cell-{number}-fp32" for number in range(13)]
    chosen = variants(cells, 300)
    assert len({name for name, *_ in chosen}) == 300
    assert {cell for _, cell, *_ in chosen} == {*cells}


@pytest.mark.parametrize(
    ("size", "function"), [(0, "rope_base_at_0"), (5e-6, "rope_base_at_5"), (0.5, "rope_base_at_500000")]
)
def test_a_size_is_planted_in_millionths(size, function):
    fault = graded("a key", "rope_base", "fp32", size)
    assert fault.spec == {"fault_before": f"suites.meta.faults.parameters:{function}"}


def test_a_page_counts_what_was_found():
    sound, broken = values(STOCK, STOCK, TOKENS), values(STOCK * 1.5, STOCK, TOKENS)
    pair = {"sound": sound, "broken": broken}
    eager = {"known": [], "rules": sound, "compared": False, "measured": "then at commit c0"}
    switch = ["rope_switch"]
    unbroken = {
        "u 2 default ipex": {"red": [], "known": [], "rules": sound, "compared": True, "measured": "then at commit c0"},
        "phi-3.5-mini-fp32-cpu-single 1 AVX2 eager": {"red": switch, "again": switch, **eager},
        "phi-3.5-mini-bf16-cpu-single 1 AVX2 eager": {"red": ["logits", *switch], "again": switch, **eager},
    }
    sizes = {
        f"{name} {size}": {"fault": name, "precision": "fp32", "size": size, "red": ["logits"] if size > 0.1 else []}
        for name in GRADED
        for size in (0.5, 0.01, 0)
    }
    found = {
        "faults": {
            "rope_interleaved": {"kind": "rope", "outcome": "caught", "red": ["logits"], "rules": pair, "cell": "c"},
            "b": {"kind": "rope", "outcome": "missed", "red": [], "rules": pair, "cell": "c"},
        },
        "unbroken": unbroken,
        "sizes": sizes,
    }
    text = page(found)
    assert "; 3 unbroken variants then at commit c0; " in text
    assert "alarms: phi-3.5-mini-bf16-cpu-single 1 AVX2 eager (`logits`; asked once more: none)." in text
    assert "Of 2 variants 2 turned `rope_switch`, `rope_switch_tokens` red, rightly: transformers 4.51.3, Phi-3" in text
    assert "`regression` compares the 1 that differ" in text
    assert "| `rope_interleaved` | c | every call | all pairs of dims | `logits` |" in text
    assert "| rope | 1 | 0 | 1 |" in text
    assert "| `b` | c | missed | - | not explained |" in text
    assert "| this suite | 1 of 2 | 1 of 2 | 1 of 3 |" in text
    assert "| 0.1 absolute | 2 of 2 | 2 of 2 | 0 of 3 |" in text
    assert "| one_row | fp32 | 0.5 | 0.5 | not seen | - |" in text
    assert plot(sizes).count("<circle") == 2 * len(GRADED)


def test_shares_of_a_study_have_every_cell_once_and_come_together_again(tmp_path):
    cells = {f"fault {number}": f"cell {number % 3}" for number in range(9)}
    shares = [Study(tmp_path / f"{number}.json", (number, 2)) for number in (0, 1)]
    missing = [share.missing("faults", cells) for share in shares]
    assert sorted(missing[0] + missing[1]) == sorted(cells)
    assert not {cells[name] for name in missing[0]} & {cells[name] for name in missing[1]}
    for share, names in zip(shares, missing, strict=True):
        share.keep("faults", names[0], {"outcome": "caught"})
    whole = Study(tmp_path / "whole.json")
    for share in shares:
        whole.add(share.path)
    assert sorted(whole.missing("faults", cells)) == sorted({*cells} - {missing[0][0], missing[1][0]})
    assert Study(whole.path).found == whole.found


def test_a_defect_that_comes_and_goes_explains_nothing_that_stays():
    name, red = "llama-2-7b-fp32-cpu-single 2 default stock", ["long_context"]
    assert explained(name, {"red": red, "again": []}) == {"long_context"}
    assert explained(name, {"red": red, "again": red}) == set()
    assert explained(name, {"red": red}) == set()
    assert explained(name.replace("stock", "ipex"), {"red": red, "again": []}) == set()
