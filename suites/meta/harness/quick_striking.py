"""Each fault struck once where that costs least: small parameters, short windows, stock classes where they do."""

import dataclasses
import functools
import shutil
from pathlib import Path
from unittest import mock

from fixtures.io.shipped import table_of
from fixtures.measure import parameters as shipped
from fixtures.weights import miniature

from .striking import Striker

TABLE = Path(__file__).parent.parent / "faults/quick.toml"
OF_GENERATE = ("generate", "robustness")  # suites whose faults wrap generate() or write to weights, whoever computes


class QuickStriker(Striker):
    """A Striker of smaller models, with the parameters of quick.toml. Its `runtime` is closed by who made it."""

    def __init__(self, runtime):
        super().__init__(runtime=runtime)
        self.table = table_of(TABLE)
        self.parameters = merged(shipped.parameters(), self.table["parameters"])
        for cell_id, cell in self.cells.items():
            if changed := self.table["geometry"].get(cell.model.id):
                geometry = dataclasses.replace(cell.model.geometry, **changed)
                model = dataclasses.replace(cell.model, geometry=geometry)
                self.cells[cell_id] = dataclasses.replace(cell, model=model)
        self._smaller = mock.patch.multiple(miniature, **self.table["miniature"])
        self._smaller.start()

    def close(self):
        self._smaller.stop()

    def strike(self, fault):
        """(Outcome of the unbroken model, Outcome with the Fault planted), both with the fault's parameters."""
        if fault.when == "after" and fault.suite in OF_GENERATE:
            fault = dataclasses.replace(fault, plain=True)
        names = {fault.name, fault.checks[0]}
        mine = [place for place, more in enumerate(self.table["for"]) if names & {*more["these"]}]
        found = functools.reduce(merged, (self.table["for"][place] for place in mine), self.parameters)
        with mock.patch.object(shipped, "table_of", return_value=found):
            return super().strike(fault, *mine)

    def also(self, fault):
        """The Fault with the checks that see it here alone."""
        return dataclasses.replace(fault, checks=(*fault.checks, *self.table["also"].get(fault.name, ())))

    def _forget_saved(self, cell_id):
        """Lay the checkpoint that was saved for a cell back as it was: saving it again takes longer than all else."""
        saved = self.runtime.saved.get(cell_id)
        if saved is None or saved.folder is None or saved.error is not None:
            return super()._forget_saved(cell_id)
        kept = saved.folder.with_name(f"{saved.folder.name}-kept")
        if not kept.exists():
            shutil.copytree(saved.folder, kept)
        shutil.rmtree(saved.folder)
        shutil.copytree(kept, saved.folder)


def merged(table, other):
    """`table` with the entries of `other` in place of its own, table by table."""
    both = {name: merged(table[name], more) for name, more in other.items() if isinstance(more, dict)}
    return {**table, **other, **both}
