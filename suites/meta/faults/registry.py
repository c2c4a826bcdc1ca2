"""The registry of planted faults, registry.toml: what each breaks, and the smallest size that a check has to see."""

import dataclasses
import tomllib
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault: an injector of the module `module` of this folder, with the keys that registry.toml explains."""

    module: str
    name: str
    kind: str
    strikes: str
    mechanism: str
    smallest: str
    check: str
    others: tuple[str, ...] = ()


def registry():
    """{name: Fault} of all that are registered."""
    tables = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    return {
        name: Fault(module, name, **{**entry, "others": tuple(entry.get("others", ()))})
        for module, faults in tables.items()
        for name, entry in faults.items()
    }
