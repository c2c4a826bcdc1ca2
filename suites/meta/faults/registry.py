"""Every planted fault of the suite in one table: what it breaks, where it strikes, and which check must turn red."""

import dataclasses
import functools
from pathlib import Path

from fixtures.io.parties import OPTIMISED
from fixtures.io.shipped import table_of

PATH = Path(__file__).with_name("registry.toml")
CLASSES = (
    "rope", "attention", "cache", "norms_mlp", "precision", "embeddings", "shape", "length", "company", "weights",
    "nondeterminism", "generation", "sampling", "memory", "int4", "path", "distributed", "scores", "worker", "latency",
    "depth",
)  # fmt: skip
MOMENTS = ("first", "before", "after", "in_folder")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault `module.function` of suites/meta/faults, planted at a moment of the recipe (`when`).

    suite, cell: where it strikes most cheaply; `plain` in stock classes. checks: one of them must turn red, and where
    `others` are given no check but these. strikes: the calls that it breaks; mechanism: what it stands for, or the
    public report; smallest: the size that must be seen. unseen: why no check of that suite sees it; elsewhere: the
    test file that plants it in whole runs instead, where a quiet machine, a group of ranks or an end of it is needed;
    party: whose fault the lines of `checks` say it is.
    """

    name: str
    function: str
    kind: str
    suite: str
    cell: str
    checks: tuple
    strikes: str
    mechanism: str
    smallest: str
    others: tuple | None = None
    when: str = "after"
    plain: bool = False
    unseen: str = ""
    elsewhere: str = ""
    party: str = OPTIMISED

    @property
    def spec(self):
        """Entries of the recipe's spec that plant it (fixtures.engine.recipe.load)."""
        module, _, function = self.function.rpartition(".")
        hook = {f"fault_{self.when}": f"suites.meta.faults.{module}:{function}"}
        return {**hook, "plain": True} if self.plain else hook


@functools.cache
def faults():
    """{name: Fault} in the order of registry.toml, whose [[group]] gives what its faults have in common."""
    found = {}
    for group in table_of(PATH)["group"]:
        common = {key: value for key, value in group.items() if key != "faults"}
        for name, entry in group["faults"].items():
            entry = {**common, **entry}
            entry["function"] = f"{entry.pop('module')}.{entry.pop('function', name)}"
            entry |= {key: tuple(entry[key]) for key in ("checks", "others") if key in entry}
            assert name not in found, f"{PATH.name}: two faults are called {name}"
            found[name] = Fault(name, **entry)
    return found


def struck_here():
    """The faults that a Striker plants: those that no other test is named for."""
    return [fault for fault in faults().values() if not fault.elsewhere]
