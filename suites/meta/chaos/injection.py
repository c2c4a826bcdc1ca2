"""Faults of every kind thrown at real runs on the host: nothing is lost, misjudged, left behind or corrupted.

`python -m suites.meta.chaos.injection [--injections N] [--seed N]` draws faults in workers (crashes, memory that runs
out, silence, floods, a broken connection, grandchildren), of the run itself (killed, terminated, Ctrl-C, a second run,
a clock that steps back) and of its disks (full, not writable, without power), at random moments of runs of the
miniatures. The next run resumes what a fault interrupted. Then the verdicts of all cells, the journal, the accepted
values, processes and files must be what they are without faults, but for the verdict of the cell that was struck. A
table counts what was found. Each finding is printed with the command that repeats it, and the exit status is 1.

No device can be lost here: the message of its driver is planted.
"""

import argparse
import collections
import itertools
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from suites.meta.chaos import host
from suites.meta.chaos.checks import COLUMNS, ENDS
from suites.meta.chaos.draw import ENDERS, EVENTS, FEW, KINDS, RANKED, Round, draw
from suites.meta.chaos.rounds import Player

EXPECTED = {
    "second_run": ("second run in the folder of another", "refused; the first as without"),
    "clock_back": ("clock steps back", "as without"),
    "sigkill_of_the_run": ("run is killed (SIGKILL)", "resumed: as without"),
    "sigterm": ("run is ended (SIGTERM)", "reported, status 143; resumed: as without"),
    "sighup": ("terminal is gone (SIGHUP)", "reported, status 129; resumed: as without"),
    "ctrl_c": ("Ctrl-C", "reported, status 2; resumed: as without"),
    "power_cut": ("power cut at a write", "files old or new; resumed: as without"),
    "results_full": ("disk of the journal is full", "one FAIL, in one sentence, and the end; resumed: as without"),
    "results_read_only": ("disk of the journal is read-only", "refused in one sentence; resumed: as without"),
    "baselines_full": ("disk of accepted values is full", "NOT ACCEPTED, old values; resumed: as without"),
    "device_lost": ("device is lost", "CRASHED at once; resumed: as without"),
}
LANDED = 0.75  # share of the faults drawn that has to strike
SHORT, LONG = 6, 8  # seconds that a worker has for an answer, in short fault injections and in long ones


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Faults of every kind thrown at real runs on the host.")
    parser.add_argument("--injections", type=int, default=220)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one injection of the draw alone")
    parser.add_argument("--round", type=int, metavar="NUMBER", help="one round of the draw alone")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for the runs, which is left there")
    options = parser.parse_args(arguments)
    # A shell's background job ignores these, and so would all runs that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    host.with_own_mounts()
    host.own_shared_memory()
    host.adopt()
    group = host.oom_group()
    try:
        with tempfile.TemporaryDirectory(prefix="xpu-llm-cts-injection-", ignore_cleanup_errors=True) as temporary:
            if options.keep:
                options.keep.mkdir()
            return int(not _inject(options.keep or Path(temporary), options, _cannot(group)))
    finally:
        host.orphans(0)
        host.without_group(group)


def _cannot(group):
    """{fault: why} of what this host does not let be drawn."""
    without = {}
    if group is None:
        without["oom_killed"] = "no control group can be made"
    if not host.may_mount():
        for fault in ("results_full", "baselines_full", "results_read_only"):
            without[fault] = "nothing can be mounted"
    if not RANKED:
        without["faults in groups of ranks"] = "these compute in bf16, which this CPU has no arithmetic for"
    if not shutil.which("cc"):
        without["clock_back"] = "there is no compiler"
    return without


def _inject(folder, options, without):
    """Play the rounds and print what was found; whether all is as it has to be."""
    for fault, why in without.items():
        print(f"left out: {fault}, since {why}")
    rounds = draw(options.seed, options.injections, without)
    if options.round:
        rounds = [round_ for round_ in rounds if round_.number == options.round]
    if options.only:
        rounds = [round_.only(options.only) for round_ in rounds]
        rounds = [round_ for round_ in rounds if any(i.number == options.only for i in round_.injections)]
    player, start, found = Player(folder, SHORT if options.injections < FEW else LONG), time.monotonic(), {}
    drawn = [injection for round_ in rounds for injection in round_.injections]
    print(f"seed {options.seed}: {len(drawn)} injections in {len(rounds)} rounds", flush=True)

    def play(round_):
        found[round_.number] = player.play(round_)
        _tell(round_, found[round_.number], options, time.monotonic() - start, player.missed)

    for round_ in rounds:
        play(round_)
    late = tuple(i for i in drawn if i.number in player.missed and i.fault in ENDERS)
    if late:  # for where workers compute, and not for where nothing is loaded
        player.missed -= {injection.number for injection in late}
        play(Round(max(found) + 1, "light", {}, late))
    struck = [injection for injection in drawn if injection.number not in player.missed]
    print("\n".join(_table(struck, [one for several in found.values() for one in several])))
    sound = sum(injection is None for round_ in rounds for injection in round_.planted.values())
    findings = sum(map(len, found.values()))
    late = f", {len(drawn) - len(struck)} more came too late" if len(struck) < len(drawn) else ""
    reported = f"{len(struck)} injections (seed {options.seed}{late}) and {sound} sound cells beside them"
    print(f"{reported} in {time.monotonic() - start:.0f} s: {findings} findings")
    beside = [event for round_ in rounds if round_.kind in ("workers", "ranks") for event in round_.events]
    enough = len(struck) >= LANDED * len(drawn) and (not beside or any(event in struck for event in beside))
    if not enough:
        print(f"too few struck: {LANDED:.0%} of those drawn have to, and some of what befalls runs that load models")
    return enough and not findings


def _tell(round_, found, options, seconds, missed):
    names = collections.Counter(i.fault for i in round_.injections if i.number not in missed)
    reported = ", ".join(f"{count} {name}" if count > 1 else name for name, count in sorted(names.items()))
    print(f"[{seconds:5.0f} s] round {round_.number} ({round_.kind}): {reported}: {len(found)} findings", flush=True)
    again = f"python -m suites.meta.chaos.injection --injections {options.injections} --seed {options.seed}"
    for one in found:
        which = f"--round {round_.number}" if one.injection is None else f"--only {one.injection}"
        print(f"  {one.column}: {one.text}\n  again: {again} {which}", flush=True)


def _table(struck, found):
    """Rows of a table of what struck, by kinds of faults and what is expected of them.

    A finding that belongs to no single injection counts for the runs as a whole.
    """
    names = {injection.number: _row(injection.fault) for injection in struck}
    whole = ("runs as a whole", "")
    counted = collections.Counter((names.get(one.injection, whole), one.column) for one in found)
    times = collections.Counter(names.values())
    yield f"| fault | injections | expected | {' | '.join(COLUMNS)} |"
    yield "|---" * (3 + len(COLUMNS)) + "|"
    for row in dict.fromkeys([*map(_row, [*itertools.chain(*KINDS.values()), *EVENTS]), whole]):
        if times[row] or any(counted[row, column] for column in COLUMNS):
            cells = " | ".join(str(counted[row, column]) for column in COLUMNS)
            yield f"| {row[0]} | {times[row] or ''} | {row[1]} | {cells} |"
    sums = " | ".join(str(sum(one.column == column for one in found)) for column in COLUMNS)
    yield f"| all | {len(struck)} | | {sums} |"


def _row(fault):
    """(kind, what is expected) of a fault."""
    if fault in EXPECTED:
        return EXPECTED[fault]
    return next(kind for kind, faults in KINDS.items() if fault in faults), ENDS[fault].verdict


if __name__ == "__main__":
    sys.exit(main())
