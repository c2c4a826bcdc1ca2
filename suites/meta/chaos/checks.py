"""What must hold after each run that suites.meta.chaos.injection disturbed, and after the run that came to its end.

Everything found is a Finding in one of four columns: a wrong verdict, a finished test that was lost or run again, an
orphan (a process, a file or shared memory left behind), a corrupt file.
"""

import collections
import dataclasses
import json
import re
from pathlib import Path

from fixtures.checks.verdicts import FAILING
from fixtures.plugin.outcome import Totals
from fixtures.results import ResultsError, read_journal
from fixtures.results.records import file_text, read_file
from suites.meta.harness.inner import junit

COLUMNS = ("wrong", "lost", "orphans", "corrupt")
AGAIN = ("CRASHED", "HANG")  # run again
SHOWN = re.compile(r"^(?P<nodeid>suites/\S+\]) (?P<word>[A-Z_]+)(?P<kept> \(journal\))?(?=\s|$)")
# What may stay in a folder for temporary files or of results.
KEPT = ("torchinductor_", "torchelastic_")


@dataclasses.dataclass(frozen=True)
class End:
    """How a test has to end: its verdict, and words that its lines have to hold."""

    verdict: str
    words: str = ""


PASS = End("PASS")
ENDS = {
    "sigsegv": End("CRASHED", "SIGSEGV"),
    "sigbus": End("CRASHED", "SIGBUS"),
    "sigabrt": End("CRASHED", "SIGABRT"),
    "sigfpe": End("CRASHED", "SIGFPE"),
    "sigill": End("CRASHED", "SIGILL"),
    "sigkill": End("CRASHED", "SIGKILL"),
    "oom_killed": End("OOM", "killed by the kernel's OOM killer"),
    "memory_refused": End("OOM", "can't allocate memory"),
    "sleeps": End("HANG", "in sleeps"),
    "deadlocks_in_native_code": End("HANG", "in deadlocks_in_native_code"),
    "spins_in_native_code": End("HANG", "in _native"),
    "never_stops": End("HANG", "no answer within"),
    "is_stopped": End("HANG", "no answer within"),
    "floods": PASS,
    "floods_for_ever": End("HANG", "no answer within"),
    "closes_its_connection": End("CRASHED", "closed its connection"),
    "shuts_its_connection_down": End("CRASHED"),
    "exits_without_an_answer": End("CRASHED", "exit 0 without an answer"),
    "words_on_the_connection": End("CRASHED", "a header of"),
    "noise_on_the_connection": End("CRASHED", "what is no message"),
    "no_header_on_the_connection": End("CRASHED", "what is no message"),
    "odd_array_on_the_connection": End("CRASHED", "what is no message"),
    "endless_array_on_the_connection": End("CRASHED", "what is no message"),
    "an_answer_to_nothing": End("CRASHED", "answered a call that was not made"),
    "half_a_frame_and_death": End("CRASHED", "SIGSEGV"),
    "half_a_frame_and_silence": End("HANG", "no answer within"),
    "half_a_frame_and_on": End("CRASHED", "what is no message"),
    "leaves_a_grandchild_and_goes_on": PASS,
    "leaves_a_grandchild_and_dies": End("CRASHED", "SIGSEGV"),
    "leaves_a_child_and_hangs": End("HANG", "no answer within"),
    "raises": End("FAIL", "RuntimeError: planted"),
    "kills_its_parent": End("CRASHED", "its parent process is gone"),
    "loses_its_device": End("CRASHED", "device lost: level_zero"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that does not hold; `injection` is its number where it concerns one."""

    column: str
    text: str
    injection: int | None = None


def expected(planted, records, nodeid):
    """The End of a test with the Injection `planted` in its cell, or None; `records` are of its attempts.

    A fault that strikes once makes a test INTERMITTENT if the attempt that it struck was finished.
    """
    if planted is None:
        return PASS
    end = ENDS[planted.fault]
    if planted.once and end.verdict in AGAIN:
        first = [record for record in records if record["nodeid"] == nodeid and record["attempt"] == 1]
        return End("INTERMITTENT", f"first {end.verdict}") if any(not r["final"] for r in first) else PASS
    return end


# -- after every run ----


def shown(log):
    """{node id: verdict} of the tests that a run's output shows as finished by itself."""
    lines = map(SHOWN.match, log.read_text(errors="replace").splitlines())
    return {found["nodeid"]: found["word"] for found in lines if found and not found["kept"]}


def journal_of(chain):
    """(records of the journal, Findings): every line is a record, but for a torn last one."""
    try:
        return list(read_journal(chain.journal)) if chain.journal.exists() else [], []
    except ResultsError as error:
        return [], [Finding("corrupt", f"the journal cannot be read: {error}")]


def baselines_of(chain):
    """Findings for every file of accepted values that is not a whole one."""
    found = []
    for path in chain.baselines.rglob("*.json"):
        platform, key, suite = path.relative_to(chain.baselines).parts[:3]
        try:
            data = read_file(path, suite.removesuffix(".json"), platform, key)
            if path.read_text() != file_text(data):
                found.append(Finding("corrupt", f"{path} is not what a run would write"))
        except ResultsError as error:
            found.append(Finding("corrupt", f"{error}"))
    return found


def after_each(chain):
    """Findings after any run of a chain, however it ended: files are whole, what was shown is kept, nothing runs."""
    records, found = journal_of(chain)
    runs = [record["run"] for record in records if record["kind"] == "run"]
    finished = collections.defaultdict(set)
    for record in records:
        if record["kind"] == "test" and record["final"]:
            finished[record["run"]].add(record["nodeid"])
    kept = set().union(*(finished[run] for run in runs)) if runs else set()
    not_run = {record["nodeid"] for record in records if record["kind"] == "test" and record["attempt"] == 0}
    reported = shown(chain.log)
    for nodeid in sorted({*reported} - kept - not_run - chain.unrecorded):
        found.append(Finding("lost", f"{nodeid} was shown as {reported[nodeid]} and is not in the journal"))
    again = [nodeid for nodeid in kept if sum(nodeid in finished[run] for run in finished) > 1]
    found += [Finding("lost", f"{nodeid} was finished and run again") for nodeid in sorted(again)]
    found += baselines_of(chain)
    left = chain.orphans()
    return found + [Finding("orphans", f"process {pid} is left: {line}") for pid, line in left.items()]


def after_an_orderly_end(chain):
    """Findings after a run that had the time to put things away."""
    left = [*chain.temporary.iterdir(), *chain.baselines.rglob("*.tmp"), *(chain.results / "unfinished").glob("*")]
    left += [path for path in chain.results.glob("*") if path.name not in ("journal.jsonl", "unfinished", "filler")]
    left += [Path("/dev/shm", name) for name in chain.shared_memory()]
    return [Finding("orphans", f"{path} is left") for path in left if not path.name.startswith(KEPT)]


# -- after the last one ----


def at_the_end(chain, planted, ends=None):
    """Findings about a chain that came to its end: `planted` {node id: Injection or None} are its tests.

    `ends` {node id: End} are the ends of tests that are not what `expected` says.
    """
    records, found = journal_of(chain)
    if found:
        return found
    tests = [record for record in records if record["kind"] == "test"]
    seen = junit(chain.folder / "junit.xml")
    final = {record["nodeid"]: record for record in tests if record["final"]}
    backwards = [record for record in records if record.get("seconds", 0) < 0]
    found += [Finding("wrong", f"a record tells of {record['seconds']} s: {record}") for record in backwards]
    wanted = {nodeid: (ends or {}).get(nodeid) or expected(planted[nodeid], tests, nodeid) for nodeid in planted}
    for nodeid, end in wanted.items():
        number = planted[nodeid].number if planted[nodeid] else None
        verdict, _, message, _ = seen.get(nodeid.split("::")[1], (None, "", "", {}))
        record = final.get(nodeid)
        if record is None:
            found.append(Finding("lost", f"{nodeid} is not in the journal", number))
        elif verdict != end.verdict or record["verdict"] != end.verdict:
            text = f"{nodeid} is {verdict} in JUnit, {record['verdict']} in the journal; it has to be {end.verdict}"
            found.append(Finding("wrong", f"{text}: {_reported(record)}", number))
        elif end.words not in json.dumps(record["lines"]).replace("\\\\", "\\"):
            found.append(Finding("wrong", f"{nodeid} does not say {end.words!r}: {_reported(record)}", number))
        elif end.verdict in FAILING and end.words not in message:
            found.append(Finding("wrong", f"JUnit does not say {end.words!r} of {nodeid}", number))
        first = sum(record["nodeid"] == nodeid and record["attempt"] == 1 for record in tests)
        if first > 1:
            found.append(Finding("lost", f"{nodeid} was selected for the first time {first} times", number))
        if planted[nodeid] and not chain.fired(number):
            found.append(Finding("wrong", f"the fault planted in {nodeid} never struck", number))
    return found + _summed_up(chain, {nodeid: end.verdict for nodeid, end in wanted.items()})


def _reported(record):
    return "; ".join(f"{line['check']} {line['verdict']} {line['measured']}" for line in record["lines"])[-600:]


def _summed_up(chain, verdicts):
    """The last line of the output and the exit status follow from the verdicts."""
    output = chain.log.read_text(errors="replace")
    sums = [row for row in output.splitlines() if row.startswith("expected ")]
    right = Totals(expected=[*verdicts], verdicts=verdicts).last_line()
    status = int(any(verdict in FAILING for verdict in verdicts.values()))
    found = []
    if sums != [right]:
        found.append(Finding("wrong", f"the last line is {sums}, it has to be {right}"))
    if chain.process.returncode != status:
        found.append(
            Finding("wrong", f"exit status {chain.process.returncode}, it has to be {status}: {output[-800:]}")
        )
    return found


def refused(status, output, sentence):
    """Findings about a run that had to be refused in one sentence."""
    reported = [row for row in output.splitlines() if sentence in row]
    if status == 4 and len(reported) == 1 and "Traceback" not in output:
        return []
    return [Finding("wrong", f"was to be refused with {sentence!r}; exit status {status}: {output[-800:]}")]
