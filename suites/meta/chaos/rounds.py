"""The rounds of fault injection, one function a kind: each runs a chain, disturbs it, and returns its Findings."""

import contextlib
import dataclasses
import json
import mmap
import shutil
import signal
import subprocess
import sys

from fixtures.checks.verdicts import FAILING
from fixtures.engine import extensions
from fixtures.results import read_journal
from fixtures.results.records import file_text
from suites.meta.chaos import host
from suites.meta.chaos.chain import DisturbedRun, Missed
from suites.meta.chaos.checks import ENDS, End, Finding, after_an_orderly_end, at_the_end, refused
from suites.meta.chaos.draw import CELLS, Round, node, records_of
from suites.meta.faults.worker import MEBIBYTE
from suites.meta.harness.inner import ROOT, junit, nodes

SIGNALS = {
    "sigkill_of_the_run": signal.SIGKILL,
    "sigterm": signal.SIGTERM,
    "sighup": signal.SIGHUP,
    "ctrl_c": signal.SIGINT,
}
# Nothing is loaded for what is not timed: these tests follow each other quickly.
UNTIMED = nodes("latency", CELLS)
OPTIONS = ("-p", "suites.meta.harness.planting", "--benchmark-disable")
QUICKLY = 0.02  # what is left of a delay where tests follow each other quickly
WRITES = 6 + len(UNTIMED)  # of a light run to the disk: a folder, its records, a file of accepted values
ENOUGH = 8 * MEBIBYTE  # for results, and for accepted values
TRIES = 8  # to hit a light run before it is over
NOT_TIMED = End("INCONCLUSIVE")
NOTHING = (None, "", "", {})
EARLY, EARLY_SECONDS = 0.15, 8.0  # share of kills that come before the first record, and how late they come
OF_GROUPS = 30  # seconds that a group of ranks has for an answer: they import DeepSpeed first
AT_ONCE = 5.0  # seconds that a cell may take whose device is gone


class Player:
    """What rounds share: the folder they are below, seconds a worker has, a clock, and a run to go on with.

    `missed` are numbers of injections that came too late to disturb anything.
    """

    def __init__(self, folder, deadline):
        self.folder, self.options = folder, (*OPTIONS, f"--deadline={deadline}")
        self.clock, self.missed, self._done = host.clock(folder), set(), None

    def play(self, round_):
        """The Findings of a round; one that its faults missed is played again, with faults that come earlier."""
        kind, found = round_.kind, []
        tries = TRIES if kind in ("light", "power_cut") else 1
        for attempt in range(tries):
            found += getattr(self, f"_{kind}")(round_, self.folder / f"round-{round_.number}-{attempt}")
            late = [event for event in round_.events if event.number in self.missed]
            if not late or attempt == tries - 1:
                break
            self.missed -= {event.number for event in late}
            events = tuple(dataclasses.replace(event, moment=event.moment / 2, delay=0.0) for event in late)
            round_ = dataclasses.replace(round_, events=events)
        return found

    # -- faults in workers, with what befalls the run beside ----

    def _ranks(self, round_, folder):
        if not (extensions.folder() / "finished").exists():  # its compiler would be taken for a hang
            subprocess.run([sys.executable, "-m", "fixtures.engine.extensions"], cwd=ROOT, check=True)
        return self._workers(round_, folder)

    def _workers(self, round_, folder):
        plants = [injection.option() for injection in round_.planted.values() if injection]
        moved = self.clock if any(event.fault == "clock_back" for event in round_.events) else None
        untimed = UNTIMED if round_.kind == "workers" else []
        options = self.options if untimed else (*OPTIONS, f"--deadline={OF_GROUPS}")
        chain = DisturbedRun(folder, [*round_.planted, *untimed], (*options, *plants), moved)
        with contextlib.closing(chain):
            found = self._until_the_end(chain, round_.events, records_of(round_.planted) + len(untimed))
            found += at_the_end(chain, round_.planted | dict.fromkeys(untimed), dict.fromkeys(untimed, NOT_TIMED))
        if self._done is None and untimed and not found:
            self._done = chain
        return found

    def _until_the_end(self, chain, events, records, before=0):
        """Run a chain to its end through all `events`; `before` records are in the journal already."""
        found = []
        chain.begin()
        for event in events:
            try:
                early = event.fault == "sigkill_of_the_run" and event.moment < EARLY
                if early:
                    chain.lasts(event.delay * EARLY_SECONDS)
                else:
                    chain.reaches(before + int(event.moment * records), event.delay)
                found += self._befall(chain, event)
            except Missed as missed:
                self.missed.add(event.number)
                found += missed.found
            if chain.process.poll() is not None:
                found += chain.finished()
                chain.begin()
        return found + chain.finished() + after_an_orderly_end(chain)

    def _befall(self, chain, event):
        if event.fault in SIGNALS:
            found = chain.ended_by(SIGNALS[event.fault])
        elif event.fault == "second_run":
            found = chain.second_run()
        else:
            chain.clock.back(1800 + event.seed % 7200)
            found = []
        return [Finding(one.column, one.text, event.number) for one in found]

    # -- light runs: all that loads something is in the journal ----

    @property
    def done(self):
        """A chain of workers that came to its end, for others to go on with."""
        if self._done is None:
            found = self._workers(Round(0, "workers", dict.fromkeys(map(node, CELLS[:2]))), self.folder / "done")
            if self._done is None:
                raise RuntimeError(f"a run that nothing befell is not in order: {found}")
        return self._done

    def _half_done(self, folder):
        """A chain whose first run was ended after what loads something; its accepted values are older ones."""
        done = self.done
        chain = DisturbedRun(folder, done.selection, self.options)
        chain.disk(chain.results, ENOUGH) if host.may_mount() else chain.results.mkdir()
        for path in done.baselines.rglob("*.json"):
            data = json.loads(path.read_text())
            for value in (v for entry in data["cells"].values() for v in entry["values"].values()):
                value["value"] *= 2
            older = chain.baselines / path.relative_to(done.baselines)
            older.parent.mkdir(parents=True)
            older.write_text(file_text(data))
        rows = done.journal.read_text().splitlines(keepends=True)
        kept = [row for row in rows if json.loads(row)["kind"] != "end" and json.loads(row).get("suite") != "latency"]
        chain.journal.write_text("".join(kept))
        return chain

    def _as_done(self, chain):
        """Findings where a chain did not come out as the one that it goes on with."""
        last = {record["nodeid"]: record["verdict"] for record in read_journal(self.done.journal) if _is_final(record)}
        ends = {nodeid: End(last[nodeid]) for nodeid in chain.selection}
        found = at_the_end(chain, dict.fromkeys(chain.selection), ends)
        for path in self.done.baselines.rglob("*.json"):
            mine = chain.baselines / path.relative_to(self.done.baselines)
            values = [_values(file) if file.exists() else None for file in (path, mine)]
            if values[0] != values[1]:
                found.append(Finding("lost", f"{mine} does not have the values that the finished tests have"))
        return found

    def _light(self, round_, folder):
        with contextlib.closing(self._half_done(folder)) as chain:
            quick = [dataclasses.replace(event, delay=event.delay * QUICKLY) for event in round_.events]
            found = self._until_the_end(chain, quick, len(UNTIMED), before=chain.tests())
            return found + self._as_done(chain)

    # -- disks ----

    def _power_cut(self, round_, folder):
        (event,) = round_.events
        with contextlib.closing(self._half_done(folder)) as chain:
            cut = 1 + int(event.moment / 0.8 * WRITES)
            chain.begin("-p", "suites.meta.chaos.power", f"--power-cut={cut}", f"--power-seed={event.seed}")
            found = chain.finished()
            if chain.process.returncode != -9:
                self.missed.add(event.number)
            chain.begin()
            found += chain.finished() + after_an_orderly_end(chain) + self._as_done(chain)
            return _of(event, found)

    def _results_full(self, round_, folder):
        (event,) = round_.events
        with contextlib.closing(self._half_done(folder)) as chain:
            missing = len(self.done.journal.read_bytes()) - len(chain.journal.read_bytes())
            filler = host.filled(chain.results, int(event.moment * (missing // mmap.PAGESIZE - 1)))
            chain.begin()
            chain.process.wait()
            output = chain.log.read_text()
            reported = [nodeid for nodeid in chain.selection if _fails_by(chain, nodeid, "No space left on device")]
            chain.unrecorded = {*reported}
            found = chain.finished() + after_an_orderly_end(chain)
            found += _one_sentence(output, "journal.jsonl: cannot be written (No space left on device)")
            if chain.process.returncode != 1 or len(reported) > 1:
                text = (
                    f"a full disk must end the run with status 1 at one test, not {chain.process.returncode} {reported}"
                )
                found.append(Finding("wrong", f"{text}: {output[-800:]}"))
            filler.unlink()
            chain.unrecorded = set()
            chain.begin()
            found += chain.finished() + after_an_orderly_end(chain) + self._as_done(chain)
            return _of(event, found)

    def _results_read_only(self, round_, folder):
        (event,) = round_.events
        with contextlib.closing(self._half_done(folder)) as chain:
            before = chain.journal.read_bytes()
            host.read_only(chain.results)
            chain.begin()
            found = chain.finished() + after_an_orderly_end(chain)
            sentence = "journal.jsonl: cannot be opened (Read-only file system)"
            found += refused(chain.process.returncode, chain.log.read_text(), sentence)
            if chain.journal.read_bytes() != before:
                found.append(Finding("corrupt", "a journal that cannot be written to has changed"))
            host.read_only(chain.results, False)
            chain.begin()
            found += chain.finished() + after_an_orderly_end(chain) + self._as_done(chain)
            return _of(event, found)

    def _baselines_full(self, round_, folder):
        (event,) = round_.events
        with contextlib.closing(self._half_done(folder)) as chain:
            aside = folder / "aside"
            shutil.copytree(chain.baselines, aside)
            chain.disk(chain.baselines, ENOUGH)
            shutil.copytree(aside, chain.baselines, dirs_exist_ok=True)
            before = {path: path.read_bytes() for path in chain.baselines.rglob("*.json")}
            filler = host.filled(chain.baselines, 0)
            chain.begin()
            found = chain.finished() + after_an_orderly_end(chain)
            output = chain.log.read_text()
            found += _one_sentence(output, "cannot be written (No space left on device); the old numbers are kept")
            if chain.process.returncode != 1:
                found.append(Finding("wrong", f"exit status {chain.process.returncode} where nothing was accepted"))
            if before != {path: path.read_bytes() for path in chain.baselines.rglob("*.json")}:
                found.append(Finding("corrupt", "accepted values have changed though there was no space for new ones"))
            filler.unlink()
            chain.begin()
            found += chain.finished() + after_an_orderly_end(chain) + self._as_done(chain)
            return _of(event, found)

    # -- the device ----

    def _device_lost(self, round_, folder):
        (event,) = round_.events
        lost = [*round_.planted][event.seed % len(round_.planted)]
        fault = f"worker.loses_its_device__n{event.number}"
        plants = (f"--plant={lost.split('[')[1][:-1]}=before:{fault}", f"--plant=cpu=probe:{fault}")
        with contextlib.closing(DisturbedRun(folder, [*round_.planted], self.options)) as chain:
            chain.begin(*plants)
            found = chain.finished() + after_an_orderly_end(chain)
            if not chain.fired(event.number):
                found.append(Finding("wrong", "the device was never lost"))
            tests = [record for record in read_journal(chain.journal) if record["kind"] == "test"]
            place = next(p for p, record in enumerate(tests) if record["nodeid"] == lost)
            for record in tests[place + 2 :]:
                reported = any("device lost: a probe after" in line["measured"] for line in record["lines"])
                if record["verdict"] != "CRASHED" or record["attempt"] or not reported or record["seconds"] > AT_ONCE:
                    found.append(
                        Finding("wrong", f"{record['nodeid']} was not reported at once that its device is lost")
                    )
            if len(tests) != len(round_.planted) + 1:
                found.append(Finding("lost", f"{len(tests)} records of {len(round_.planted)} tests, one ran twice"))
            chain.begin()
            found += chain.finished() + after_an_orderly_end(chain)
            return _of(event, found + at_the_end(chain, round_.planted, {lost: ENDS["loses_its_device"]}))


def _of(event, found):
    return [Finding(one.column, one.text, event.number) for one in found]


def _is_final(record):
    return record["kind"] == "test" and record["final"]


def _values(path):
    return {cell: (entry["values"], entry["n"]) for cell, entry in json.loads(path.read_text())["cells"].items()}


def _fails_by(chain, nodeid, words):
    report = chain.folder / "junit.xml"
    verdict, _, message, _ = junit(report).get(nodeid.split("::")[1], NOTHING) if report.exists() else NOTHING
    return verdict in FAILING and words in message


def _one_sentence(output, sentence):
    if sentence in output and "Traceback" not in output and "INTERNALERROR" not in output:
        return []
    return [Finding("wrong", f"the output does not say {sentence!r}, or says it in a traceback: {output[-1500:]}")]
