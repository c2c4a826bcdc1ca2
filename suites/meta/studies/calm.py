"""Does the main job stay calm on a busy host? It runs many times in a row, some of them beside neighbours.

`python -m suites.meta.studies.calm --runs 10 --busy 5 --out DIR` accepts values of this machine into a folder of its
own, then repeats against them what Llama 2 is asked. It ends with status 1 if any run fails, or if any cell
fails in one.
"""

import argparse
import collections
import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fixtures.checks.verdicts import FAILING
from fixtures.worker.environment import ROOT

from .neighbours import neighbours

SUITES = ("generation", "dispatch", "latency", "quantization", "distributed", "accuracy")


def job(checkout, options, results, baselines):
    """(exit status, seconds) of pytest over the suites that a checkout has; its output goes to results/output.txt."""
    files = [f"suites/test_{name}.py" for name in SUITES if (checkout / f"suites/test_{name}.py").exists()]
    results.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files, *options]
    command += [f"--results={results}", f"--baselines={baselines}"]
    begun = time.monotonic()
    with (results / "output.txt").open("w") as output:
        ended = subprocess.run(command, cwd=checkout, stdout=output, stderr=subprocess.STDOUT, check=False)
    return ended.returncode, time.monotonic() - begun


def verdicts_in(results):
    """{node id: (verdict, why)} of the finished tests in a run's journal; `why` is the line that decided."""
    found, journal = {}, results / "journal.jsonl"
    for row in journal.read_text().splitlines() if journal.exists() else ():  # none where a run did not start
        record = json.loads(row)
        if record.get("kind") == "test" and record.get("final"):
            lines = [line for line in record["lines"] if line["verdict"] == record["verdict"]]
            why = f"{lines[0]['check']}: {lines[0]['measured']}" if lines else ""
            found[record["nodeid"].split("::")[-1]] = (record["verdict"], why)
    return found


def accept(checkout, marker, out):
    """A folder of baselines with this machine's own values of the cells of a marker."""
    folder = out / "baselines"
    shutil.copytree(checkout / "baselines", folder, dirs_exist_ok=True)
    files = [
        f"suites/test_{name}.py" for name in ("dispatch", "latency") if (checkout / f"suites/test_{name}.py").exists()
    ]
    command = [sys.executable, "-m", "pytest", *files, "-m", marker, "--update-baselines", "--launches", "4"]
    begun = time.monotonic()
    with (out / "accept.txt").open("w") as output:
        command += [f"--results={out / 'accept'}", f"--baselines={folder}"]
        subprocess.run(command, cwd=checkout, stdout=output, stderr=subprocess.STDOUT, check=True)
    print(f"accepted in {time.monotonic() - begun:.0f} s", flush=True)
    return folder


def study(checkout, options, runs, busy, out, baselines, models):
    """Rows (number, kind, status, seconds, {test: (verdict, why)}) of the runs, each printed when it ends."""
    rows = []
    for number in range(runs):
        kind = "busy" if (number + 1) * busy // runs > number * busy // runs else "quiet"  # spread evenly
        with neighbours(number, models) if kind == "busy" else contextlib.nullcontext():
            results = out / f"run-{number}"
            status, seconds = job(checkout, options, results, baselines)
        rows.append((number, kind, status, seconds, verdicts_in(results)))
        counts = collections.Counter(verdict for verdict, _ in rows[-1][4].values())
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        print(f"| {number + 1} | {kind} | {status} | {seconds:.0f} s | {verdicts} |", flush=True)
        for name, (verdict, why) in rows[-1][4].items():
            if verdict in FAILING:
                print(f"    {verdict} {name}: {why}", flush=True)
    return rows


def failed(rows):
    """Sentences on what is not calm: runs that failed, and every cell that fails, with whether it passes elsewhere."""
    found = [f"run {number + 1} ({kind}) ended with status {status}" for number, kind, status, *_ in rows if status]
    quiet = {
        name
        for _, kind, *_, seen in rows
        if kind == "quiet"
        for name, (verdict, _) in seen.items()
        if verdict == "PASS"
    }
    for number, kind, *_, seen in rows:
        for name in sorted(name for name, (verdict, _) in seen.items() if verdict in FAILING):
            note = ", which passes on a quiet host" if name in quiet else ""
            found.append(f"run {number + 1} ({kind}): {name} is {seen[name][0]}{note}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", type=int, default=5, help="how many of them run beside neighbours")
    parser.add_argument("--models", type=int, default=2, help="model runs among the neighbours")
    parser.add_argument("--marker", default="llama2")
    parser.add_argument("--out", type=Path, default=Path("results/calm"))
    parser.add_argument("--baselines", type=Path, help="a folder that was accepted before")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="another checkout of the suite")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    baselines = (options.baselines or accept(options.checkout, options.marker, out)).resolve()
    words = shlex.split(f"-m {options.marker} --benchmark-compare")
    rows = study(options.checkout, words, options.runs, options.busy, out, baselines, options.models)
    problems = failed(rows)
    print("\n".join(problems) or f"calm: {len(rows)} runs, none failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
