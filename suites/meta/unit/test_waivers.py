"""Waivers: which defects are known, until when, and every way to write one wrongly."""

import datetime
import time

import pytest

from fixtures.results import Here, ResultsError, Waivers, load_waivers

TODAY = datetime.date(2026, 6, 15)
WINDOW = """
[[waivers]]
id = "ipex-ignores-sliding-window"
suite = "generation"
cells = "mistral-*-cpu-*"
check = "long-context"
at_most = 50
reason = "IPEX attends beyond the sliding window"
evidence = "ratio 41 at 4200 tokens, 1.0 at 4000"
owner = "ipex-cpu"
until = 2026-06-15
"""
OLD = """
[[waivers]]
id = "old"
suite = "*"
cells = ["mistral-7b-bf16-cpu-single", "opt-[36]*-cpu-*"]
check = "*"
at_most = 2.5
reason = "r"
evidence = "e"
owner = "old-owner"
until = 2026-06-14
"""
CELL = "mistral-7b-bf16-cpu-single"


def load(tmp_path, text, **options):
    path = tmp_path / "waivers.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_waivers(path, **options)


@pytest.fixture
def waivers(tmp_path):
    return load(tmp_path, "schema = 1\n" + WINDOW + OLD)


def test_every_field_is_kept(waivers):
    first, second = waivers.all
    assert first.id == "ipex-ignores-sliding-window"
    assert first.cells == ("mistral-*-cpu-*",)
    assert (first.suite, first.checks, first.owner) == ("generation", ("long-context",), "ipex-cpu")
    assert first.evidence.startswith("ratio 41")
    assert first.reason.startswith("IPEX")
    assert first.until == TODAY
    assert second.cells == ("mistral-7b-bf16-cpu-single", "opt-[36]*-cpu-*")


@pytest.mark.parametrize(
    ("suite", "cell", "check", "today", "found"),
    [
        ("generation", CELL, "long-context", TODAY, True),
        ("generation", CELL, "long-context", TODAY + datetime.timedelta(days=1), False),
        ("latency", CELL, "long-context", TODAY, False),
        ("generation", CELL, "noise-ratio", TODAY, False),
        ("generation", "mistral-7b-int4-max1550-single", "long-context", TODAY, False),
        ("generation", "x" + CELL, "long-context", TODAY, False),
        ("generation", CELL.upper(), "long-context", TODAY, False),
    ],
)
def test_matching_asks_suite_cell_check_and_date(waivers, suite, cell, check, today, found):
    assert waivers.matching(suite, cell, check, today) is (waivers.all[0] if found else None)


def test_expired_names_the_owner_and_waives_nothing(waivers):
    assert waivers.matching("latency", CELL, "regression", TODAY) is None
    assert waivers.expired("latency", CELL, "regression", TODAY).owner == "old-owner"
    assert waivers.matching("latency", CELL, "regression", TODAY - datetime.timedelta(days=1)).id == "old"
    assert waivers.expired("generation", "opt-6.7b-bf16-cpu-single", "tokens", TODAY).owner == "old-owner"
    assert waivers.expired("generation", "opt-13b-bf16-cpu-single", "tokens", TODAY) is None
    later = datetime.date(2027, 1, 1)
    assert waivers.expired("generation", CELL, "long-context", later).owner == "ipex-cpu", "the last to run out"


def test_expected_lists_what_must_still_fail(waivers):
    yesterday = TODAY - datetime.timedelta(days=1)
    assert waivers.expected("generation", CELL, yesterday) == waivers.all
    assert waivers.expected("generation", CELL, TODAY) == waivers.all[:1]
    assert waivers.expected("latency", CELL, yesterday) == waivers.all[1:]
    assert waivers.expected("latency", "glm-4-9b-bf16-cpu-single", TODAY) == ()


def test_a_glob_without_cells_of_its_suite_shows(waivers):
    def dead(*selected):
        return [glob for (_, glob), cells in waivers.covered(selected).items() if not cells]

    every = ["mistral-*-cpu-*", CELL, "opt-[36]*-cpu-*"]
    opt = ("latency", "opt-30b-bf16-cpu-single")
    assert dead() == every
    assert dead(("generation", CELL)) == every[2:]
    assert dead(("generation", CELL), opt) == []
    assert dead(("latency", CELL), opt) == every[:1], "the first is a waiver of generation"


def test_no_file_is_no_waivers(tmp_path):
    assert load_waivers(tmp_path / "absent.toml").all == ()
    assert Waivers().matching("latency", CELL, "x", TODAY) is None
    assert load(tmp_path, "schema = 1\n").all == ()


def test_a_waiver_may_cover_checks_that_fail_by_one_cause(tmp_path):
    waivers = load(tmp_path, "schema = 1\n" + WINDOW.replace('"long-context"', '["long-context", "logits"]'))
    found = [waivers.matching("generation", CELL, check, TODAY) for check in ("long-context", "logits", "tokens")]
    assert found == [waivers.all[0], waivers.all[0], None]


def test_a_ceiling_is_one_number_or_one_for_each_check(tmp_path):
    several = WINDOW.replace('"long-context"', '["long-context", "tokens"]')
    [one] = load(tmp_path, "schema = 1\n" + several).all
    assert (one.ceiling("long-context"), one.ceiling("tokens")) == (50.0, 50.0)
    [each] = load(tmp_path, "schema = 1\n" + several.replace("= 50", "= { long-context = 50, tokens = 3 }")).all
    assert (each.ceiling("long-context"), each.ceiling("tokens")) == (50.0, 3.0)
    [every] = load(tmp_path, "schema = 1\n" + OLD).all
    assert every.ceiling("whatever") == 2.5


def test_ten_thousand_cells_are_quick(tmp_path):
    blocks = [WINDOW.replace("sliding-window", f"w{n}").replace("mistral-*", f"*model-{n}-*") for n in range(50)]
    waivers = load(tmp_path, "schema = 1\n" + "".join(blocks))
    cells = [f"model-{n % 60}-bf16-cpu-single-{n}" for n in range(10_000)]
    start = time.process_time()  # which other work on the machine does not lengthen
    hits = sum(waivers.matching("generation", cell, "long-context", TODAY) is not None for cell in cells)
    assert all(waivers.covered(("generation", cell) for cell in cells).values())
    assert hits == sum(n % 60 < 50 for n in range(10_000))
    assert time.process_time() - start < 5


FIRST = "[[waivers]] no. 1 ('ipex-ignores-sliding-window') "
FAULTS = {  # name: (replaced, by, message)
    "unknown key": (
        'owner = "ipex-cpu"',
        'ownr = "x"',
        FIRST + "has the unknown key 'ownr'; did you mean 'owner'?",
    ),
    "no owner": ('owner = "ipex-cpu"\n', "", FIRST + 'has no owner; add owner = "a component or role"'),
    "no id": (
        'id = "ipex-ignores-sliding-window"\n',
        "",
        '[[waivers]] no. 1 has no id; add id = "a-short-slug"',
    ),
    "no until": ("until = 2026-06-15\n", "", FIRST + "has no until; add until = 2026-12-31"),
    "blank reason": (
        '"IPEX attends beyond the sliding window"',
        '" "',
        "has reason = ' '; reason must be a non-empty",
    ),
    "no ceiling": ("at_most = 50\n", "", FIRST + "has no at_most; add at_most = 1.5"),
    "quoted ceiling": ("= 50", '= "50"', FIRST + "has at_most = '50'; at_most must be a finite number of 0 or more"),
    "true ceiling": ("= 50", "= true", FIRST + "has at_most = True; at_most must be a finite number"),
    "no end": ("= 50", "= inf", FIRST + "has at_most = inf; at_most must be a finite number of 0 or more, in the unit"),
    "not a number": ("= 50", "= nan", FIRST + "has at_most = nan; at_most must be a finite number"),
    "negative": ("= 50", "= -1", FIRST + "has at_most = -1; at_most must be a finite number of 0 or more"),
    "ceiling of another": ("= 50", "= { logits = 2 }", FIRST + "has at_most of 'logits', which is not in its check"),
    "ceiling of no check": ("= 50", "= { }", FIRST + "has no at_most of long-context; add long-context = 1.5"),
    "ceilings of all": (
        '"long-context"\nat_most = 50',
        '"*"\nat_most = { logits = 2 }',
        "has a table at_most and check = '*'; give one number",
    ),
    "runs without a message": (
        '"long-context"',
        '"runs"',
        FIRST + 'waives runs and has no raises; add raises = "a part of the message',
    ),
    "runs among others": (
        'check = "long-context"',
        'raises = "index_copy_"\ncheck = ["logits", "runs"]',
        FIRST + "waives an exception of several checks; give logits a waiver of its own",
    ),
    "quoted flag": (
        "until = 2026-06-15",
        'until = 2026-06-15\nintermittent = "yes"',
        FIRST + "has intermittent = 'yes'; intermittent must be true or false",
    ),
    "numeric owner": ('"ipex-cpu"', "3", FIRST + "has owner = 3; owner must be a non-empty string"),
    "numeric id": (
        '"ipex-ignores-sliding-window"',
        "3",
        "[[waivers]] no. 1 has id = 3; id must be a non-empty",
    ),
    "odd id": ("ipex-ignores", "Ipex ignores", "has a malformed id; ids are lower case letters and digits"),
    "quoted date": (
        "2026-06-15",
        '"2026-06-15"',
        "has until = '2026-06-15'; until must be a date without quotes",
    ),
    "date with time": ("2026-06-15", "2026-06-15T00:00:00Z", "has until = datetime.datetime(2026"),
    "no such day": (
        "2026-06-15",
        "2026-06-31",
        "is malformed TOML: Invalid date or datetime (at line 12, column",
    ),
    "odd suite": (
        '"generation"',
        '"generations"',
        "has the unknown suite 'generations'; did you mean 'generation'?",
    ),
    "no cells": ('"mistral-*-cpu-*"', "[]", "has cells = []; cells must be a glob over cell ids or a list"),
    "blank cell": ('"mistral-*-cpu-*"', '["a", ""]', "has cells = ['a', '']; cells must be a glob"),
    "number check": ('"long-context"', "4", "has check = 4; check must be the name of a check or a list of them"),
    "blank check": ('"long-context"', '["a", ""]', "has check = ['a', '']; check must be the name of a check"),
    "number cells": ('"mistral-*-cpu-*"', "4", "has cells = 4; cells must be a glob"),
    "single bracket": (
        "[[waivers]]",
        "[waivers]",
        "waivers is no list of tables; head each waiver with [[waivers]]",
    ),
    "other table": ("[[waivers]]", "[[waiver]]", "has the unknown key 'waiver'; did you mean 'waivers'?"),
    "no schema": ("schema = 1", "", "has no schema this reader knows; write schema = 1 at its top"),
    "new schema": ("schema = 1", "schema = 2", "has no schema this reader knows"),
    "true schema": ("schema = 1", "schema = true", "has no schema this reader knows"),
    "malformed": (
        'suite = "gen',
        "suite = gen",
        "is malformed TOML: Invalid value (at line 5, column 9); fix it there",
    ),
    "twice": ("until", 'owner = "b"\nuntil', "is malformed TOML: Cannot overwrite a value (at line 12"),
    "deep": ('"mistral-*-cpu-*"', "[" * 5_000, "more than 64 levels deep; fix it there; a waiver is a flat table"),
    "long number": ('"mistral-*-cpu-*"', "1" * 5000, "is malformed TOML: Exceeds the limit"),
    "big": ("schema = 1", "schema = 1\n" + "#" * 2**20, "is bigger than 1 MiB; restore it with git checkout"),
    "same id": (
        "\nuntil = 2026-06-15\n",
        "\nuntil = 2026-06-15\n" + WINDOW,
        "has the id 'ipex-ignores-sliding-",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_waivers_give_one_sentence(tmp_path, name):
    old, new, message = FAULTS[name]
    text = "schema = 1\n" + WINDOW
    assert old in text
    with pytest.raises(ResultsError) as caught:
        load(tmp_path, text.replace(old, new, 1))
    reported = str(caught.value)
    assert reported.startswith(f"{tmp_path / 'waivers.toml'}: ")
    assert message in reported
    assert "\n" not in reported
    assert len(reported) < 400


def test_bad_bytes_and_folders_give_one_sentence(tmp_path):
    with pytest.raises(ResultsError, match=r"waivers\.toml: line 2 is not UTF-8; restore it with git checkout"):
        load(tmp_path, b"schema = 1\n# \xff")
    with pytest.raises(ResultsError, match=r"cannot be read \(Is a directory\)"):
        load_waivers(tmp_path)


def in_force(tmp_path, more, here, cell=CELL):
    """Whether the first waiver with a line more is in force; it is known for its cells wherever it is."""
    waivers = load(tmp_path, "schema = 1\n" + WINDOW + more, here=here)
    assert waivers.covered([("generation", CELL)])["ipex-ignores-sliding-window", "mistral-*-cpu-*"] == {CELL}
    found = waivers.matching("generation", cell, "long-context", TODAY)
    assert found in waivers.expected("generation", cell, TODAY) or found is None
    return found is not None


@pytest.mark.parametrize(("here", "expected"), [("amx", True), (None, True), ("avx2", False)])
def test_a_waiver_of_other_arithmetic_is_not_in_force(tmp_path, here, expected):
    assert in_force(tmp_path, 'arithmetic = ["amx"]\n', Here(here)) is expected


# No accelerator is at hand where these run: the drivers' versions are planted.
@pytest.mark.parametrize(
    ("drivers", "reported", "expected"),
    [
        (">=25.13,<26", "25.13.33276", True),
        (">=25.13,<26", "25.09.32961", False),
        (">=25.13,<26", "26.01.1", False),
        (">=535,<571", "570.86.15", True),
        ("==1.6.33276", "1.6.33276+16", True),
        (">=1", "rolling", False),
        (">=1", None, False),
    ],
)
def test_a_waiver_of_other_drivers_is_not_in_force(tmp_path, drivers, reported, expected):
    text = "schema = 1\n" + WINDOW.replace("-cpu-", "-core-ultra-") + f'drivers = "{drivers}"\n'
    here = Here("amx", ("ultra", "core-ultra", "cpu"), lambda: {"core-ultra": reported} if reported else {})
    waivers = load(tmp_path, text, here=here)
    cell = "mistral-7b-fp16-core-ultra-single"
    assert (waivers.matching("generation", cell, "long-context", TODAY) is not None) is expected
    reason = here.why_not(waivers.all[0], "core-ultra")
    assert (reason is None) is expected
    assert expected or f"for {waivers.all[0].drivers}" in reason


def test_a_host_has_no_driver(tmp_path):
    here = Here("amx", ("cpu",), lambda: {"cuda": "570.86.15"})
    assert not in_force(tmp_path, 'drivers = ">=1"\n', here)
    waiver = load(tmp_path, "schema = 1\n" + WINDOW + 'drivers = ">=1"\n').all[0]
    assert here.why_not(waiver, "cpu") == "driver: a host CPU has none"


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ('{ "intel-extension-for-pytorch" = "==2.8.*" }', True),
        ('{ "intel-extension-for-pytorch" = "<2.8" }', False),
        ('{ "intel-extension-for-pytorch" = "==2.8.*", "transformers" = ">=4.52" }', False),
        ('{ "deepspeed" = ">=0.1" }', False),
    ],
)
def test_a_waiver_of_another_stack_is_not_in_force(tmp_path, versions, expected):
    stack = {"intel-extension-for-pytorch": "2.8.10+xpu", "transformers": "4.51.3"}
    assert in_force(tmp_path, f"versions = {versions}\n", Here(versions=lambda: stack)) is expected


@pytest.mark.parametrize(("engines", "expected"), [("", False), ('engines = ["eager", "compile"]\n', True)])
def test_a_waiver_of_stock_engines_is_about_the_stack_that_runs_them(tmp_path, engines, expected):
    stacks = Here(versions=lambda: {"transformers": "4.51.3"}, stock_versions=lambda: {"transformers": "5.24.0"})
    waiver = load(tmp_path, "schema = 1\n" + WINDOW + engines + 'versions = { "transformers" = "==5.*" }\n').all[0]
    assert (stacks.why_not(waiver, "cpu") is None) is expected


def test_nothing_is_asked_of_the_machine_without_need(tmp_path):
    def never():
        raise AssertionError("selected for what no waiver names")

    assert in_force(tmp_path, "", Here("amx", ("cpu",), never, never, never))


@pytest.mark.parametrize(("platforms", "expected"), [('"cpu"', True), ('["max*", "c?u"]', True), ('"max*"', False)])
def test_platforms_limit_the_cells(tmp_path, platforms, expected):
    here = Here("amx", ("max1550", "cpu"))
    waivers = load(tmp_path, "schema = 1\n" + WINDOW + f"platforms = {platforms}\n", here=here)
    assert (waivers.matching("generation", CELL, "long-context", TODAY) is not None) is expected
    [cells] = waivers.covered([("generation", CELL)]).values()
    assert bool(cells) is expected, "one that can match no cell is found out"


def test_running_out_names_what_has_two_weeks_left_and_cells(waivers):
    selected = [("generation", CELL), ("latency", CELL), ("generation", "glm-4-9b-bf16-cpu-single")]

    def reported(days):
        found = waivers.running_out(selected, TODAY - datetime.timedelta(days=days))
        return [(waiver.id, cells) for waiver, cells in found]

    assert reported(16) == []
    assert reported(15) == [("old", 1)]
    assert reported(14) == [("old", 1), ("ipex-ignores-sliding-window", 1)]
    assert reported(0) == [("ipex-ignores-sliding-window", 1)], "old ran out yesterday"
    assert waivers.running_out(selected[2:], TODAY) == []


KNOWN = dict(here=Here("amx", ("max1550", "cpu")), checks={"generation": ("logits", "long-context"), "x": ("other",)})
MORE_FAULTS = {  # a line more, or another check: the message
    'arithmetic = ["amxx"]': "unknown arithmetic 'amxx'",
    'platforms = "cpuu"': "has platforms = 'cpuu', which no platform matches; did you mean 'cpu'?",
    "platforms = []": "platforms must be a glob over platforms or a list of them",
    'drivers = "25.13 or newer"': "has drivers = '25.13 or newer'; give a range of versions, such as",
    "drivers = 25.13": "has drivers = 25.13; give a range of versions",
    'drivers = ""': "has drivers = ''; give a range of versions",
    'versions = "2.8"': "has versions = '2.8'; write versions = {",
    'versions = { "transfomers" = "<5" }': "unknown package 'transfomers'; did you mean 'transformers'?",
    'versions = { "transformers" = "newest" }': "has versions of transformers = 'newest'; give a range",
    'check = "logit"': "has the check 'logit', of which generation has none; did you mean 'logits'?",
    'check = "other"': "has the check 'other', of which generation has none; fixtures/contract/contract.toml lists",
}


@pytest.mark.parametrize("line", MORE_FAULTS)
def test_scopes_that_could_never_match_give_one_sentence(tmp_path, line):
    text = "schema = 1\n" + WINDOW
    text = text.replace('check = "long-context"', line) if line.startswith("check") else f"{text}{line}\n"
    with pytest.raises(ResultsError) as caught:
        load(tmp_path, text, **KNOWN)
    assert FIRST in str(caught.value)
    assert MORE_FAULTS[line] in str(caught.value)
    assert "\n" not in str(caught.value)
