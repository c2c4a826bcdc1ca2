"""Does green mean something? Every planted fault, unbroken models in variants, and the smallest size that is seen.

`python -m suites.meta.studies.sharpness` measures on this host and writes docs/sharpness.md and its plot. What is
measured stays in `--out`, so that a repeated command goes on where it was interrupted; `--only` names the parts, and
`--page-only` writes the page of what is there.
"""

import argparse
import datetime
import fnmatch
import functools
import itertools
import json
import subprocess
import sys
import zlib
from pathlib import Path

from fixtures.system.fingerprint import commit_of, machine_fingerprint
from fixtures.system.versions import versions
from fixtures.worker.environment import ROOT
from suites.meta.faults.registry import Fault, struck_here
from suites.meta.harness.arithmetic import PRECISIONS
from suites.meta.harness.striking import Striker

from .rules import values
from .sharpness_page import ANY, page, plot

SUITE = "generation"
CELL = "llama-3.2-1b-{}-cpu-single"
SIZES = [size for power in range(-6, 0) for size in (1 * 10**power, 2 * 10**power, 5 * 10**power)]  # shares
CHECKS = (ANY, "logits", "regression")
GRADED = {  # sizes are shares; of norm eps what is added to it
    "attention_scale": SIZES,
    "rope_base": SIZES,
    "norm_eps": SIZES[:12],
    "mlp_output": SIZES,
    "one_row": SIZES,
}
# What may differ between two sound machines: threads, the kernels that oneDNN chooses, and who computes.
THREADS, KERNELS = (1, 2), (None, "AVX2", "AVX512_CORE", "AVX512_CORE_BF16")
PER_CELL = 6  # a cell costs its reference and its unbroken model once
ENGINES = ({}, {"plain": True}, {"plain": True, "attention": "eager"})


def others(measured):
    """{rule: value} of other suites on a Generation, None where the model gave no answers."""
    seen = measured.reference_logits
    if measured.logits is None or seen is None:
        return None
    return values(measured.logits, seen.stock, measured.greedy_tokens)


class Study:
    """What was measured so far, in a file that every measurement is added to. `share` (number, of): this process's."""

    def __init__(self, path, share=(0, 1)):
        self.path, self.share = path, share
        empty = {"faults": {}, "unbroken": {}, "sizes": {}}
        self.found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty
        self.commit = commit_of(ROOT)

    def keep(self, part, key, record):
        stamp = f"{datetime.date.today().isoformat()} at commit {self.commit}"
        self.found[part][key] = {"measured": stamp, **record}
        self.found["context"] = {"cpu": machine_fingerprint().cpu, "versions": versions()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        print(part, key, record, flush=True)

    def mine(self, cells):
        """The keys of {key: cell} that are this share's: all of a cell, whose reference costs most."""
        number, of = self.share
        chosen = {*sorted({*cells.values()})[number::of]}
        return [key for key, cell in cells.items() if cell in chosen]

    def missing(self, part, cells):
        """Those of `mine` that are not measured."""
        return [key for key in self.mine(cells) if key not in self.found[part]]

    def add(self, path):
        """Take over what another Study has kept at `path`."""
        for part, found in json.loads(path.read_text(encoding="utf-8")).items():
            self.found.setdefault(part, {}).update(found)
        self.path.write_text(json.dumps(self.found, indent=1), encoding="utf-8")


def measure_faults(study, striker, pattern):
    """Each fault: caught by a check named for it, for another reason, or missed; and what other rules would say."""
    known = {fault.name: fault for fault in struck_here() if fnmatch.fnmatch(fault.name, pattern)}
    cells = {name: fault.cell for name, fault in known.items()}
    for name in sorted(study.missing("faults", cells), key=lambda name: (known[name].cell, known[name].suite)):
        fault = known[name]
        sound, broken = striker.strike(fault)
        red = broken.against(sound)
        caught = "caught" if red & {*fault.checks} else "wrong reason" if red else "missed"
        rules = {"sound": others(sound.measured), "broken": others(broken.measured)} if fault.suite == SUITE else None
        record = {"kind": fault.kind, "outcome": caught, "red": sorted(red), "rules": rules}
        study.keep("faults", name, {**record, "cell": fault.cell, "seconds": round(broken.seconds, 1)})


def variants(cells, number):
    """`number` of all (name, cell id, spec, environment), drawn by their names, PER_CELL of a cell on average."""
    found, drawn = [], lambda name: zlib.crc32(name.encode())
    cells = sorted(cells, key=drawn)[: -(-number // PER_CELL)]
    for threads, kernels, engine in itertools.product(THREADS, KERNELS, ENGINES):
        refused = kernels == "AVX2" and not engine  # IPEX packs bf16 weights for AVX-512 alone
        spec = {"threads": threads, **engine}
        environment = {"ONEDNN_MAX_CPU_ISA": kernels} if kernels else {}
        for cell in (cell for cell in cells if not (refused and "-bf16-" in cell)):
            name = (
                f"{cell} {threads} {kernels or 'default'} {engine.get('attention') or ('stock' if engine else 'ipex')}"
            )
            found.append((name, cell, spec, environment))
    chosen = sorted(found, key=lambda entry: drawn(entry[0]))[:number]
    return sorted(chosen, key=lambda entry: entry[1])


def measure_unbroken(study, striker, number):
    """Sound models in variants: what this suite and others report of them is a false alarm.

    A run finds accepted values of its own arithmetic and engine alone, so variants that differ in threads are compared.
    A variant with an alarm is asked once more.
    """
    cells = sorted(cell for cell in striker.cells if cell.endswith(tuple(f"-{p}-cpu-single" for p in PRECISIONS)))
    chosen = {name: rest for name, *rest in variants(cells, number)}
    cells, known = {name: cell for name, (cell, *_) in chosen.items()}, study.found["unbroken"]
    alarmed = [name for name in study.mine(cells) if known.get(name, {}).get("red") and "again" not in known[name]]
    for name in [*alarmed, *study.missing("unbroken", cells)]:
        record = study.found["unbroken"].get(name) or _variant(striker, *chosen[name])
        if record["red"]:
            print(name, *record.get("said", ()), sep="\n")
            record["again"] = _variant(striker, *chosen[name])["red"]
        study.keep("unbroken", name, record)


def _variant(striker, cell, spec, environment):
    """What is kept of a variant: its red checks, what they said, and those that are red without it."""
    sound = striker.sound(SUITE, cell, "plain" in spec)
    compared = not environment and "attention" not in spec
    striker.environment = environment
    found = striker.ask(SUITE, cell, spec, sound.measured if compared else None)
    striker.environment = {}
    red = found.against(sound)
    said = [str(line) for line in found.lines if line.check in red]
    rules = others(found.measured)
    return {"red": sorted(red), "said": said, "known": sorted(sound.red), "rules": rules, "compared": compared}


def measure_sizes(study, striker):
    """The smallest size of each graded fault that any check sees, and each of CHECKS, by bisection over its sizes."""
    for name, precision in study.mine({pair: pair for pair in itertools.product(GRADED, PRECISIONS)}):
        _is_seen(study, striker, name, precision, ANY, 0)  # the control: planted without a size, it must not be seen
        for check in CHECKS:
            seen = functools.partial(_is_seen, study, striker, name, precision, check)
            low, high = 0, len(GRADED[name])  # sizes below `low` are not seen, those from `high` on are
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if seen(GRADED[name][middle]) else (middle + 1, high)


def graded(key, name, precision, size):
    """The Fault that a function of GRADED plants with a size."""
    function = f"parameters.{name}_at_{f'{size * 1e6:.10g}'.replace('.', 'p')}"
    cell = CELL.format(precision)
    return Fault(key, function, "precision", SUITE, cell, (), "every call", "a size", f"{size:g}", when="before")


def _is_seen(study, striker, name, precision, check, size):
    """Whether a check, or any for "any check", is red at a size; measured once."""
    key = f"{name} {precision} {size:g}"
    if key not in study.found["sizes"]:
        sound, broken = striker.strike(graded(key, name, precision, size))
        red = sorted(broken.against(sound))
        study.keep("sizes", key, {"fault": name, "precision": precision, "size": size, "red": red})
    red = study.found["sizes"][key]["red"]
    return bool(red) if check == ANY else check in red


def in_shares(study, options):
    """Measure in `options.jobs` processes at once, each its share of the cells in a file beside the study's."""
    files = [options.out.with_suffix(f".{number}.json") for number in range(options.jobs)]
    asked = ["--only", options.only, "--faults", options.faults, "--unbroken", str(options.unbroken)]
    running = []
    for number, path in enumerate(files):
        if not path.exists() and options.out.exists():
            path.write_text(options.out.read_text(encoding="utf-8"), encoding="utf-8")
        share = ["--share", str(number), str(options.jobs), "--out", str(path)]
        running.append(subprocess.Popen([sys.executable, "-m", __spec__.name, *asked, *share]))
    failed = [process.args for process in running if process.wait()]
    for path in files:
        if path.exists():
            study.add(path)
            path.unlink()  # else a study that is begun anew would find it
    if failed:
        raise SystemExit(f"{len(failed)} of {len(running)} processes failed; repeat the command to go on")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="faults,unbroken,sizes", help="parts with commas")
    parser.add_argument("--faults", default="*", help="a glob over names of faults")
    parser.add_argument("--unbroken", type=int, default=300, help="variants of unbroken cells")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sharpness.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "sharpness.md")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, each with cells of its own")
    parser.add_argument("--share", type=int, nargs=2, help="measure one share of so many, and write no page")
    parser.add_argument("--page-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    study = Study(options.out, tuple(options.share or (0, 1)))
    if options.jobs > 1 and not options.page_only:
        in_shares(study, options)
    elif not options.page_only:
        measure(study, options)
    if not options.share:
        options.page.write_text(page(study.found), encoding="utf-8")
        options.page.with_suffix(".svg").write_text(plot(study.found["sizes"]), encoding="utf-8")


def measure(study, options):
    striker = Striker()
    try:
        for part in options.only.split(","):
            if part == "faults":
                measure_faults(study, striker, options.faults)
            elif part == "unbroken":
                measure_unbroken(study, striker, options.unbroken)
            else:
                measure_sizes(study, striker)
    finally:
        striker.close()


if __name__ == "__main__":
    main()
