"""Which faults are injected, in which cells, at which moments; all of it follows from a seed."""

import dataclasses
import itertools
import random

from suites.meta.chaos.checks import AGAIN, ENDS
from suites.meta.harness.arithmetic import HAS_BF16, PRECISIONS
from suites.meta.harness.inner import nodes

MODELS = ("opt-6.7b", "opt-30b", "llama-2-7b", "llama-2-13b", "mistral-7b", "gpt-j-6b", "qwen2-7b")
# Where there is one precision less, as many cells of more models; groups of ranks are claimed in bf16 alone.
MORE = ("llama-3-8b", "llama-3.2-1b", "llama-3.2-3b", "qwen2.5-7b", "qwen3-4b", "qwen2-7b-instruct", "phi-3.5-mini")
CELLS = [
    f"{model}-{precision}-cpu-single" for model in (MODELS if HAS_BF16 else MODELS + MORE) for precision in PRECISIONS
]
RANKED = ["opt-6.7b-bf16-cpu-autotp", "llama-2-7b-bf16-cpu-autotp", "mistral-7b-bf16-cpu-autotp"] if HAS_BF16 else []
BROKEN = 11  # of the cells of a run
FEW = 50  # injections: of each event one
LEFT_OUT_OF_FEW = ("sighup", "device_lost")  # SIGTERM is much the same, and test_attempts has a lost device
CALLS = 8  # calls of generate() that the questions of a cell make at least

# Kinds of faults in workers in the order in which they are dealt; within a kind their order is drawn.
SIGNALS = ("sigsegv", "sigbus", "sigabrt", "sigfpe", "sigill", "sigkill")
MEMORY = ("oom_killed", "memory_refused")
SILENCE = ("deadlocks_in_native_code", "never_stops", "spins_in_native_code", "sleeps", "is_stopped")
OUTPUT = ("floods", "floods_for_ever")
GONE = ("closes_its_connection", "shuts_its_connection_down", "exits_without_an_answer")
ANSWERS = ("words_on_the_connection", "noise_on_the_connection", "no_header_on_the_connection",
        "odd_array_on_the_connection",
        "endless_array_on_the_connection", "an_answer_to_nothing", "half_a_frame_and_death", "half_a_frame_and_silence",
        "half_a_frame_and_on")  # fmt: skip
OFFSPRING = ("leaves_a_grandchild_and_dies", "leaves_a_grandchild_and_goes_on", "leaves_a_child_and_hangs")
OTHERS = ("raises", "kills_its_parent")
DEALT = (SIGNALS, MEMORY, ANSWERS, OFFSPRING, SILENCE, GONE, SIGNALS, OUTPUT, ANSWERS, OFFSPRING, OTHERS)
KINDS = {
    "worker dies by a signal": SIGNALS,
    "worker runs out of memory": MEMORY,
    "worker goes silent": SILENCE,
    "worker floods its output": OUTPUT,
    "worker lets go of its connection": GONE,
    "worker sends what is no answer": ANSWERS,
    "worker leaves processes behind": OFFSPRING,
    "worker raises an exception": ("raises",),
    "worker kills its parent": ("kills_its_parent",),
}
IN_RANKS = ("sigsegv", "sigkill", "oom_killed", "deadlocks_in_native_code", "words_on_the_connection",
            "half_a_frame_and_on", "exits_without_an_answer", "leaves_a_grandchild_and_dies")  # fmt: skip

# What befalls the run itself, and its share of all injections; every one is drawn at least once.
BESIDE = {"second_run": 0.06, "clock_back": 0.06}  # what a run has to bear
ENDERS = {"sigkill_of_the_run": 0.08, "sigterm": 0.04, "sighup": 0.02, "ctrl_c": 0.05}  # what ends it
DISKS = {"power_cut": 0.1, "results_full": 0.03, "baselines_full": 0.02, "results_read_only": 0.015}
DEVICE = {"device_lost": 0.01}
EVENTS = {**BESIDE, **ENDERS, **DISKS, **DEVICE}


@dataclasses.dataclass(frozen=True)
class Injection:
    """One fault. number: in its draw; cell and when: of a worker's; call, once, rank: see worker.

    moment: of an event, 0 to 1 of the records its run will have; delay: seconds after that; seed: for the rest.
    """

    number: int
    fault: str
    cell: str | None = None
    when: str = ""
    call: int | None = None
    once: bool = False
    rank: int | None = None
    moment: float = 0.0
    delay: float = 0.0
    seed: int = 0

    def option(self):
        """The option of pytest that plants it (suites.meta.harness.planting)."""
        given = {"c": self.call, "o": 1 if self.once else None, "r": self.rank}
        more = "".join(f"_{key}{value}" for key, value in given.items() if value is not None)
        return f"--plant={self.cell}={self.when}:worker.{self.fault}__n{self.number}{more}"


@dataclasses.dataclass(frozen=True)
class Round:
    """One chain of runs. kind: workers, ranks, light (nothing is loaded), or a fault of DISKS or DEVICE.

    planted: {node id: Injection or None} of its tests; events: what befalls it, in order.
    """

    number: int
    kind: str
    planted: dict
    events: tuple = ()

    @property
    def injections(self):
        return [*filter(None, self.planted.values()), *self.events]

    def only(self, number):
        """The same with one injection alone, and a sound cell beside."""
        sound = [nodeid for nodeid, injection in self.planted.items() if injection is None][:1]
        kept = {nodeid: i for nodeid, i in self.planted.items() if nodeid in sound or (i and i.number == number)}
        events = tuple(event for event in self.events if event.number == number)
        return dataclasses.replace(
            self, planted=kept if self.kind in ("workers", "ranks") else self.planted, events=events
        )


def node(cell):
    """The node id of the test of a cell."""
    return nodes("generation", [cell])[0] if cell in CELLS else nodes("tp_sharding", [cell], "distributed")[0]


def draw(seed, injections, without=()):
    """Rounds with so many injections, none of those that this host cannot have (`without`)."""
    chance, numbers = random.Random(seed), itertools.count(1)
    counts = {name: max(1, int(share * injections)) for name, share in EVENTS.items() if name not in without}
    if injections < FEW:
        counts = {name: 1 for name in counts if name not in LEFT_OUT_OF_FEW}
    ranked = 2 * round(injections / 100) if RANKED else 0
    broken = injections - sum(counts.values()) - ranked
    decks = {kind: _deck([fault for fault in kind if fault not in without], chance) for kind in DEALT}
    dealt = (next(decks[kind]) for kind in itertools.cycle(DEALT))

    def event(fault):
        return Injection(
            next(numbers), fault, moment=chance.random() * 0.8, delay=chance.random() ** 2, seed=chance.randrange(10**6)
        )

    rounds = []
    while broken > 0:
        cells = chance.sample(CELLS, len(CELLS))
        size = min(BROKEN, broken)
        chosen = [_planted(next(numbers), next(dealt), cell, chance) for cell in cells[:size]]
        broken -= size
        sound = dict.fromkeys(cells[size : size + 3])
        rounds.append(["workers", {node(i.cell): i for i in chosen} | {node(cell): None for cell in sound}, []])
    for fault in BESIDE:
        for place in range(counts.get(fault, 0)):
            rounds[place % len(rounds)][2].append(event(fault))
    workers, light = [*rounds], []
    for fault in ENDERS:
        for place in range(counts.get(fault, 0)):
            # Every other one where workers compute, the rest where records follow each other quickly.
            if place % 2 == (fault == "ctrl_c"):
                light.append(event(fault))
            else:
                chance.choice(workers)[2].append(event(fault))
    rounds += [["light", {}, light[place : place + 3]] for place in range(0, len(light), 3)]
    for _ in range(ranked // 2):
        faults = [fault for fault in IN_RANKS if fault not in without]
        cells = chance.sample(RANKED, len(RANKED))
        chosen = [_planted(next(numbers), chance.choice(faults), c, chance, chance.randrange(2)) for c in cells[:2]]
        rounds.append(["ranks", {node(i.cell): i for i in chosen} | {node(cells[2]): None}, []])
    for fault in (*DISKS, *DEVICE):
        for _ in range(counts.get(fault, 0)):
            cells = chance.sample(CELLS, 3) if fault in DEVICE else ()
            rounds.append([fault, {node(cell): None for cell in cells}, [event(fault)]])
    return [
        Round(number, kind, planted, tuple(sorted(events, key=lambda e: e.moment)))
        for number, (kind, planted, events) in enumerate(rounds, start=1)
    ]


def _deck(faults, chance):
    """Faults without end, each before any comes again."""
    while True:
        yield from chance.sample(faults, len(faults))


def _planted(number, fault, cell, chance, rank=None):
    call = chance.randint(1, CALLS) if fault == "never_stops" or chance.random() < 0.5 else None
    if rank is not None:
        call = None  # what a group is called for depends on the suite
    when = "after" if call else chance.choice(("first", "before", "after"))
    return Injection(number, fault, cell, when, call, once=chance.random() < 0.35, rank=rank)


def records_of(planted):
    """How many records the tests of a round will have: a crash or a hang runs twice."""
    return sum(2 if injection and ENDS[injection.fault].verdict in AGAIN else 1 for injection in planted.values())
