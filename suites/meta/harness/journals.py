"""Journals of runs that never were: every kind of verdict, on as many cells as a test wants."""

from fixtures.checks.verdicts import VERDICTS
from fixtures.matrix import load_matrix
from fixtures.report.view import view_of
from fixtures.results import Journal

ORIGIN = {
    "machine": "a-machine",
    "numerics": {"cpu": "amx"},
    "drivers": {},
    "python": "3.11.7",
    "versions": {"torch": "2.8.0"},
    "against": {},
    "commit": "c0ffee",
    "dirty": False,
    "sources": "1" * 16,
    "matrix": "2" * 16,
    "accepted": "3" * 16,
    "options": {"--platform": "max1550", "--weights": "auto"},
}
TIMES = {"fastest": [0.03, None, "s"], "ratio_to_stock": [0.5, None, "1"], "next_token_mean": [0.002, 1e-4, "s"]}
QUIET = {"check": "host_state", "verdict": "PASS", "measured": "quiet", "allowed": "", "margin": "", "value": None}


def line(verdict="PASS", check="logits", **more):
    known = {"measured": "0.9 of stock's error", "allowed": "<= 1.25", "margin": "", "value": 0.9}
    return {"check": check, "verdict": verdict, **known, **more}


def record(suite, cell, verdict="PASS", **more):
    """A test's record; `more` replaces what it has."""
    known = {
        "kind": "test",
        "nodeid": f"suites/test_{suite}.py::test_{suite}[{cell}]",
        "cell": cell,
        "suite": suite,
        "attempt": 1,
        "final": True,
        "verdict": verdict,
        "lines": [line(verdict), *([QUIET] if suite == "latency" else [])],
        "waivers": [],
        "metrics": TIMES if suite == "latency" else {},
        "seconds": 1.5,
        "finished": "2026-11-28T03:08:22+00:00",
        "run": "f" * 12,
    }
    return known | ORIGIN | {"numerics": "amx"} | more


def write(path, records, expected=None):
    """A journal of one run of `records`; its path."""
    opening = {"kind": "run", "run": "f" * 12, "expected": expected or len(records), "expected_digest": "0" * 16}
    opening |= {"started": "2026-11-28T03:06:32+00:00", "resumes": None, "differs": [], "environment": {}}
    with Journal(path) as journal:
        for entry in ({**opening, "not_covered": [], **ORIGIN}, *records):
            journal.append(entry)
    return path


def of_platforms(names, verdict="PASS", suites=("generation",)):
    """A record of each suite for every claimed cell of platforms."""
    return [record(suite, cell.id, verdict) for cell in load_matrix().cells(names) for suite in suites]


def every_verdict():
    """One record of each verdict, each on a cell of its own."""
    cells = load_matrix().cells(["max1550"])
    return [record("generation", cell.id, verdict) for cell, verdict in zip(cells, VERDICTS, strict=False)]


def view(tmp_path, records, before=None, **more):
    then = write(tmp_path / "before.jsonl", before) if before else None
    return view_of(write(tmp_path / "now.jsonl", records, **more), load_matrix(), (), then)
