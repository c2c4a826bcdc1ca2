"""Runs killed at any moment and resumed come out as one that was left alone: no verdict, value or test more or less.

`python -m suites.meta.chaos.resume [--kills N] [--seed N]` runs a small selection of the host once undisturbed. Then it
starts the same run in a new folder, ends it by SIGKILL at a random moment, resumes it, and so on until it comes to its
end; and again, until it has killed so often. What is not as it should be is printed, and the exit status is 1.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from fixtures.results import read_journal
from suites.meta.harness.arithmetic import HAS_BF16, PRECISIONS
from suites.meta.harness.inner import ROOT, junit, nodes
from suites.meta.harness.processes import running, shared_memory

MODELS = ("llama-2-7b", "mistral-7b", "opt-6.7b")
SELECTION = [
    *nodes("generation", [f"{model}-{precision}-cpu-single" for model in MODELS for precision in PRECISIONS]),
    *nodes("latency", [f"{model}-{PRECISIONS[-1]}-cpu-single" for model in MODELS]),
    *nodes("int4_save", ["llama-2-7b-int4-cpu-single"], "quantization"),  # writes a checkpoint of its own
    # Has shared memory.
    *nodes("tp_sharding", ["opt-6.7b-bf16-cpu-autotp"] if HAS_BF16 else [], "distributed"),
]
GRID = {"beam": "1", "output": "8", "iter": "4"}
LETTING_GO = 10  # seconds the kernel and the last workers of a killed run may take to be gone


@dataclasses.dataclass
class Outcome:
    """What a run that came to its end left: exit status, last line, verdicts and values by name, seconds."""

    status: int
    last_line: str
    verdicts: dict
    accepted: dict
    records: list
    output: str


class Chain:
    """A run with those that resume it, in a folder of its own: journal, accepted values, temporary files, output."""

    def __init__(self, folder, selection=SELECTION):
        self.folder, self.selection = Path(folder), selection
        self.temporary, self.results = self.folder / "tmp", self.folder / "results"
        self.baselines, self.log = self.folder / "baselines", self.folder / "log.txt"
        for made in (self.temporary, self.baselines):
            made.mkdir(parents=True)
        self.starts, self.torn, self.process = 0, 0, None
        self.shared = shared_memory()

    @property
    def journal(self):
        return self.results / "journal.jsonl"

    def start(self, *more, own_group=False, **variables):
        """Start the run, or resume it, with `more` arguments and `variables`; in a process group of its own or not."""
        command = [sys.executable, "-m", "pytest", *self.selection, *more, "--resume", "--update-baselines"]
        command += [
            f"--results={self.results}",
            f"--baselines={self.baselines}",
            f"--junitxml={self.folder / 'junit.xml'}",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {**GRID, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), **variables}
        with self.log.open("w") as log:
            streams = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=own_group, **streams)
        self.starts += 1

    def kill_after(self, seconds=0.0, records=0):
        """Kill the run after so many seconds, once so many tests are in the journal; False where it ended before."""
        end = time.monotonic() + seconds
        while (time.monotonic() < end or self.tests() < records) and self.process.poll() is None:
            time.sleep(0.01)
        if self.process.poll() is not None:
            return False
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.torn += self.journal.exists() and self.journal.read_bytes()[-1:] not in (b"", b"\n")
        return True

    def tests(self):
        """How many finished tests are in the journal."""
        with contextlib.suppress(FileNotFoundError):
            return self.journal.read_bytes().count(b'"kind": "test"')
        return 0

    def left_running(self):
        """Processes that a killed run has left after a while: they have its folder for temporary files."""
        end = time.monotonic() + LETTING_GO
        while (left := self._processes()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def _processes(self):
        places = {process.pid: process.info["environ"] for process in psutil.process_iter(["environ"])}
        mine = {pid for pid, place in places.items() if (place or {}).get("TMPDIR", "").startswith(str(self.temporary))}
        return {pid for pid in mine if running(pid)}

    def outcome(self):
        """Wait for the run to end by itself: its Outcome."""
        status, output = self.process.wait(), self.log.read_text()
        sums = [row for row in output.splitlines() if row.startswith("expected ")]
        verdicts = {name: seen[0] for name, seen in junit(self.folder / "junit.xml").items()}
        accepted = {
            (path.name, cell): (sorted(entry["values"]), entry["n"])
            for path in self.baselines.rglob("*.json")
            for cell, entry in json.loads(path.read_text())["cells"].items()
        }
        return Outcome(status, "".join(sums), verdicts, accepted, list(read_journal(self.journal)), output)

    def problems(self, alone):
        """Sentences on what a chain that came to its end has otherwise than `alone`, a run that was never killed."""
        seen, found = self.outcome(), []
        for name in ("status", "last_line", "verdicts", "accepted"):
            mine, theirs = getattr(seen, name), getattr(alone, name)
            if mine != theirs:
                found.append(f"{name} is {mine}, undisturbed {theirs}; the end of the log:\n{seen.output[-2000:]}")
        selected = collections.Counter(
            record["nodeid"] for record in seen.records if record["kind"] == "test" and record["attempt"] == 1
        )
        again = sorted(nodeid for nodeid, times in selected.items() if times != 1)
        if again or {*selected} != {*self.selection}:
            found.append(f"tests that did not run just once: {again or {*selected} ^ {*self.selection}}")
        left = [str(path) for path in (*self.temporary.iterdir(), *self.baselines.rglob("*.tmp"))]
        left += [f"/dev/shm/{name}" for name in shared_memory() - self.shared]
        if left:
            found.append(f"files left: {', '.join(left)}")
        return found + ([f"processes left: {running}"] if (running := self.left_running()) else [])


def undisturbed(folder, selection=SELECTION):
    """(Outcome, seconds, share of them that the journal took) of the run that is left alone."""
    chain = Chain(folder, selection)
    chain.start()
    seen = chain.outcome()
    closing = seen.records[-1]
    return seen, closing["seconds"], closing["journal_seconds"] / closing["seconds"]


def study(folder, kills, seed):
    """Print what was found; the number of things that are not as they should be."""
    moments, problems, chains = random.Random(seed), [], []
    alone, seconds, share = undisturbed(folder / "alone")
    print(f"undisturbed: {alone.last_line}, {seconds:.1f} s, of which the journal took {share:.3%}", flush=True)
    left = kills
    while left:
        chain = Chain(folder / f"chain-{len(chains)}")
        chains.append(chain)
        chain.start()
        while left and chain.kill_after(moments.uniform(0.2, seconds)):
            left -= 1
            if orphans := chain.left_running():
                problems.append(f"chain {len(chains)}: processes left after a kill: {orphans}")
            chain.start()
        found = chain.problems(alone)
        problems += [f"chain {len(chains)}: {problem}" for problem in found]
        print(
            f"chain {len(chains)}: {chain.starts - 1} kills, {chain.torn} torn lines; {found or 'as undisturbed'}",
            flush=True,
        )
    print("\n".join(problems), end="\n" if problems else "")
    starts, torn = sum(chain.starts for chain in chains), sum(chain.torn for chain in chains)
    reported = f"{len(chains)} chains of {len(SELECTION)} tests, {starts} starts, {torn} torn lines fixed"
    print(f"{kills} kills (seed {seed}) in {reported}: {len(problems)} problems")
    return len(problems)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Runs that are killed and resumed, beside one that is not.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="xpu-llm-cts-proof-") as folder:
        return int(study(Path(folder), options.kills, options.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
