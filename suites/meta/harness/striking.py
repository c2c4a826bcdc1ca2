"""One fault after another in one run of workers: the questions of its suite are asked of the broken model.

Reference and stacks are loaded once; a fault costs the load of a candidate and what its suite asks. The same checks
settle its lines, and what the unbroken model of the same cell fails by, such as a known defect, counts for no fault.
"""

import dataclasses
import time

from fixtures.checks.depth import accepted_curve, check_depth
from fixtures.checks.dispatch import check_dispatch
from fixtures.checks.distributed import check_answers, check_sharding
from fixtures.checks.generate import check_generate
from fixtures.checks.generation import accepted_metrics, check_generation
from fixtures.checks.int4 import check_reloaded, check_run
from fixtures.checks.robustness import accepted_states, check_robustness
from fixtures.checks.tolerances import tolerances
from fixtures.checks.verdicts import FAILING, settle
from fixtures.matrix import load_matrix
from fixtures.measure.depth import measure_depth
from fixtures.measure.dispatch import measure_dispatch
from fixtures.measure.distributed import measure_answers, measure_sharding
from fixtures.measure.generate import measure_generate
from fixtures.measure.generation import measure_generation
from fixtures.measure.int4 import measure_reload, measure_run
from fixtures.measure.parameters import parameters
from fixtures.measure.robustness import measure_robustness
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.results.accepted import Accepted

BEAMS = 4
OF_PATH = ("optimised",)  # fails in stock classes, whatever they compute


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a suite said of a model: the checks that are `red`, its verdict, lines, measurement and seconds."""

    red: frozenset
    verdict: str
    lines: tuple
    measured: object
    seconds: float

    def against(self, sound):
        """The checks that are red here and not in the unbroken model's Outcome."""
        return self.red - sound.red


class Striker:
    """Asks suites of cells, broken or not. `environment` is that of their candidates. `close` ends its workers.

    With a `runtime` it uses that one.
    """

    def __init__(self, settings=None, runtime=None):
        self.runtime = runtime or Runtime(settings or Settings())
        self.environment, self._worker = {}, self.runtime.processes.worker
        self.runtime.processes.worker = self._started
        self.cells = {cell.id: cell for cell in load_matrix().every_cell() if cell.platform.name == "cpu"}
        self._sound = {}

    def close(self):
        self.runtime.close()

    def _started(self, device_type, role, precision=None, mode=None, world=1, environment=None, *more, **options):
        if role == "optimised":
            environment = {**self.environment, **(environment or {})}
        return self._worker(device_type, role, precision, mode, world, environment, *more, **options)

    def sound(self, suite, cell_id, plain=False, *variant):
        """The Outcome of the unbroken model, measured once for each `variant` of the parameters."""
        key = suite, cell_id, plain, *variant
        if key not in self._sound:
            self._sound[key] = self.ask(suite, cell_id, {"plain": True} if plain else {}, None)
        return self._sound[key]

    def strike(self, fault, *variant):
        """(Outcome of the unbroken model, Outcome with the Fault of the registry planted)."""
        sound = self.sound(fault.suite, fault.cell, fault.plain, *variant)
        return sound, self.ask(fault.suite, fault.cell, fault.spec, sound.measured)

    def _forget_saved(self, cell_id):
        """A checkpoint that was saved for a cell is damaged or by a broken model."""
        for owner in (self.runtime.saved, self.runtime.saving):
            owner.pop(cell_id, None)

    def ask(self, suite, cell_id, spec, sound):
        """The Outcome of a cell loaded with more entries of the recipe's `spec`; `sound` is what is accepted."""
        runtime, cell, start = self.runtime, self.cells[cell_id], time.monotonic()
        self._forget_saved(cell_id)
        runtime.forget_candidate(cell)
        runtime.settings.faults[cell_id] = spec
        try:
            measured = MEASURES[suite](runtime, cell)
        finally:
            runtime.settings.faults.pop(cell_id)
            runtime.forget_candidate(cell)
        lines = [line for line in CHECKS[suite](measured, sound) if not (spec.get("plain") and line.check in OF_PATH)]
        settled = settle(lines, lambda check: None)
        red = frozenset(line.check for line in settled.lines if line.verdict in FAILING)
        return Outcome(red, settled.verdict, settled.lines, measured, time.monotonic() - start)


def assert_caught(fault, sound, broken):
    """Assert that a Fault turned a check red that is named for it, none that is not, and names its party.

    sound, broken: the Outcomes without and with it.
    """
    print("\n".join(map(str, broken.lines)))
    red = broken.against(sound)
    if fault.unseen:
        assert not red, f"{fault.name} is seen by {sorted(red)}: delete `unseen` of its entry"
    else:
        assert red & {*fault.checks}, f"{fault.name} turned {sorted(red)} red"
        named = [line for line in broken.lines if line.check in fault.checks and line.verdict in FAILING]
        parties = {line.party for line in named if line.check in red}
        assert parties == {fault.party}, f"{sorted(parties)} is said to be at fault"
        assert fault.others is None or red <= {*fault.checks, *fault.others}, f"{sorted(red)}: others are not for it"


def _accepted(sound, values_of):
    """The unbroken model's own values, by `values_of`, which a broken one is compared with."""
    if sound is None:
        return Accepted(None, True)
    metrics, _ = values_of(sound)
    values, spreads = ({name: entry[place] for name, entry in metrics.items()} for place in (0, 1))
    return Accepted(values, True, spreads=spreads)


MEASURES = {
    "generation": measure_generation,
    "generate": measure_generate,
    "robustness": lambda runtime, cell: measure_robustness(runtime, cell, thorough=True),
    "depth": lambda runtime, cell: measure_depth(runtime, cell, Accepted(None, True)),
    "dispatch": lambda runtime, cell: measure_dispatch(runtime, cell, BEAMS),
    "int4_run": measure_run,
    "int4_reload": measure_reload,
    "tp_sharding": measure_sharding,
    "tp_answers": measure_answers,
}
CHECKS = {
    "generation": lambda found, sound: check_generation(found, tolerances(), _accepted(sound, accepted_metrics)),
    "generate": lambda found, sound: check_generate(found, tolerances()),
    "robustness": lambda found, sound: check_robustness(found, tolerances(), _accepted(sound, accepted_states)),
    "depth": lambda found, sound: check_depth(found, tolerances(), _accepted(sound, accepted_curve)),
    "dispatch": lambda found, sound: check_dispatch(found, (sound or found).trace),
    "int4_run": lambda found, sound: check_run(found, parameters()["int4"], tolerances()),
    "int4_reload": lambda found, sound: check_reloaded(found, parameters()["int4"], tolerances()),
    "tp_sharding": lambda found, sound: check_sharding(found, tolerances()),
    "tp_answers": lambda found, sound: check_answers(found, tolerances()),
}
