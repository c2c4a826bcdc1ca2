"""The commands that a run prints for repeating it: every option that decides stands in them, and none that cannot."""

from types import SimpleNamespace

import pytest

from fixtures.plugin.gate import accepting
from fixtures.plugin.identity import REPEATED, options_that_decide
from fixtures.plugin.options import pytest_addoption
from fixtures.plugin.outcome import reproduce

# Options that change neither a cell nor its verdict: what is listed, kept, printed or demanded of a whole run.
OTHERS = {"--matrix", "--waivers", "--dry-run", "--gate", "--allow-partial", "--update-baselines", "--results"}
OTHERS |= {"--bundle", "--bundle-key"}
OTHERS |= {"--resume", "--spec-lines", "--accept-anyway"}
OTHERS |= {"--report", "--report-before", "--markdown", "--ctrf", "--webhook", "--compare-runs", "--bundle"}
OTHERS |= {"--bundle-key"}


class Names:
    """What pytest_addoption needs of a parser; keeps the names of the options."""

    def __init__(self):
        self.names = set()

    def getgroup(self, *_):
        return self

    def addoption(self, *names, **_):
        self.names.update(names)


def config_of(*words):
    return SimpleNamespace(invocation_params=SimpleNamespace(args=words))


def test_every_option_is_repeated_or_known_to_decide_nothing():
    parser = Names()
    pytest_addoption(parser)
    assert parser.names == {*REPEATED} | OTHERS


@pytest.mark.parametrize(
    "words",
    [("--matrix-data=/m",), ("--deadline", "9"), ("--fix-clock=900",), ("--benchmark-disable",), ("--platform", "cpu")],
)
def test_a_deciding_option_stands_in_the_command_that_repeats_a_cell(words):
    assert options_that_decide(config_of("-k", "one", *words, "-q"), False, {}) == [*words]


def test_the_command_that_repeats_a_cell_has_all_that_decides_from_wherever_it_came():
    environment = {"beam": "2", "IPEX_COMPUTE_ENG": "1", "HOME": "/home/me", "SYCL_CACHE_DIR": "/a b"}
    environment["PYTEST_ADDOPTS"] = "--platform max1550 -q"
    words = "-m", "llama2", "--model-root", "/my models", "--matrix-data=/m", "--benchmark-disable", "--num-beams", "4"
    options = options_that_decide(config_of(*words), True, environment)
    assert reproduce("suites/test_latency.py::test_latency[a]", options) == (
        "IPEX_COMPUTE_ENG=1 SYCL_CACHE_DIR='/a b' beam=2 pytest 'suites/test_latency.py::test_latency[a]' --platform "
        "max1550 --model-root '/my models' --matrix-data=/m --benchmark-disable --num-beams 4 --benchmark-compare"
    )


@pytest.mark.parametrize("words", [("--gate", "--allow-partial"), ("--benchmark-compare",), ("--resume", "anyway"),
                                   ("--gate", "--resume=anyway"), ("--gate", "--update-baselines")])  # fmt: skip
def test_the_command_that_accepts_has_no_option_that_cannot_stand_with_it(words):
    assert accepting(config_of("-k", "one or two", *words)) == "pytest -k 'one or two' --update-baselines"
