"""The page and the plot of suites.meta.studies.sharpness, made of what it measured."""

import collections
import fnmatch
import functools
import math
from pathlib import Path

from fixtures.io.shipped import table_of
from suites.meta.faults.registry import CLASSES, faults

from .rules import alarms, rules

ANY = "any check"
OUTCOMES = ("caught", "wrong reason", "missed")
HEAD = """# Sharpness

Written by `make sharpness` (`python -m suites.meta.studies.sharpness`) from measurements on {cpu}, with {versions}:
{when}. Nothing here holds for another machine. No Intel GPU was used.

A planted fault is caught if a check that is named for it turns red, which it does not for the unbroken model of the
same cell, in the same run. It is caught for a wrong reason if only other checks do, and missed if none does.
The faults and their sizes were chosen by who knew the checks: the counts say what these faults show, and are no rate at
which unknown faults are caught.
"""

OTHERS = """## Other rules on the same measurements

Rules that other suites use, applied to this suite's logits under forced tokens, against stock in the same precision.
They see those logits alone; this suite also asks for beams, long contexts and tokens, and for accepted values, which
here are the unbroken model's of the same run. `suites/meta/studies/rules.toml` has the limits. Only faults that
`test_generation` is asked about, and that leave answers, are counted.

Variants are unbroken cells with other threads and kernels (`ONEDNN_MAX_CPU_ISA`), under IPEX, stock, or stock with
eager attention. Of {} variants {} are of cells that fail by a known defect and are left out; {} gave no answers: {}.
The others gave {} different sets of numbers: threads and kernels often change no bit, so there are fewer variants than
it seems. Other seeds and batch shapes were not tried. `regression` compares the {} that differ in threads alone: a run
finds no values that were accepted of other arithmetic or of another attention. This suite's own false alarms: {}.
{}
"""


def page(found):
    """docs/sharpness.md of the Study's `found`."""
    context = found.get("context", {"cpu": "no machine", "versions": {}})
    versions = ", ".join(f"{name} {version}" for name, version in sorted(context["versions"].items()) if version)
    text = HEAD.format(when=_when(found), cpu=context["cpu"], versions=versions)
    records = found["faults"]
    parts = [text, _classes(records), _not_seen(records), _elsewhere(), _others(found), _sizes(found), _each(records)]
    return "\n".join(parts)


def _when(found):
    counts = collections.Counter(
        (part, record.get("measured", "on a day that is not known"))
        for part in ("faults", "unbroken", "sizes")
        for record in found[part].values()
    )
    names = {"faults": "faults", "unbroken": "unbroken variants", "sizes": "graded faults of one size"}
    return "; ".join(f"{count} {names[part]} {measured}" for (part, measured), count in counts.items()) or "none"


def _table(head, rows):
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _classes(records):
    counts = collections.defaultdict(collections.Counter)
    for record in records.values():
        counts[record["kind"]][record["outcome"]] += 1
    rows = [[kind, *(counts[kind][outcome] for outcome in OUTCOMES)] for kind in CLASSES if kind in counts]
    total = [sum(row[place] for row in rows) for place in range(1, len(OUTCOMES) + 1)]
    seconds = sum(record.get("seconds", 0) for record in records.values())
    lead = f"{len(records)} broken models took {seconds:.0f} s, without imports and unbroken models.\n\n"
    return "## Faults by class\n\n" + lead + _table(["class", *OUTCOMES], [*rows, ["all", *total]])


def _not_seen(records):
    rows = []
    for name, record in records.items():
        if record["outcome"] != "caught":
            why = (faults()[name].unseen if name in faults() else "") or "not explained"
            rows.append([f"`{name}`", record["cell"], record["outcome"], ", ".join(record["red"]) or "-", why])
    return "## What is not caught\n\n" + _table(["fault", "cell", "outcome", "red", "reason"], rows)


def _elsewhere():
    places = collections.Counter(fault.elsewhere for fault in faults().values() if fault.elsewhere)
    rows = [[f"`{place}`", count] for place, count in places.items()]
    lead = "Their measurement needs a quiet machine, trained weights or ranks; they are not counted above.\n\n"
    return "## Faults that other tests plant\n\n" + lead + _table(["test", "faults"], rows)


def _others(found):
    struck = [
        record for record in found["faults"].values()
        if record["rules"] and record["rules"]["broken"] and record["rules"]["sound"]
    ]  # fmt: skip
    unbroken = found["unbroken"]
    clean = [record for record in unbroken.values() if record["rules"] and not record["known"]]
    mute = [name for name, record in unbroken.items() if not record["rules"]]
    defects = len(unbroken) - len(clean) - len(mute)
    different = len({tuple(record["rules"].values()) for record in clean})
    alarms_of = {
        name: sorted({*record["red"]} - explained(name, record))
        for name, record in unbroken.items()
        if record["rules"] and not record["known"]
    }
    alarmed = [
        f"{name} (`{'`, `'.join(red)}`; asked once more: {_again(name, unbroken[name])})"
        for name, red in alarms_of.items()
        if red
    ]
    own = sum(record["outcome"] == "caught" for record in struck)
    false = sum(map(bool, alarms_of.values()))
    rows = [["this suite", f"{own} of {len(struck)}", f"{own} of {len(struck)}", f"{false} of {len(clean)}"]]
    for name, rule in rules().items():
        broken = [name in alarms(record["rules"]["broken"]) for record in struck]
        sound = [name in alarms(record["rules"]["sound"]) for record in struck]
        only_broken = sum(b and not s for b, s in zip(broken, sound, strict=True))
        false = sum(name in alarms(record["rules"]) for record in clean)
        counts = (sum(broken), len(struck)), (only_broken, len(struck)), (false, len(clean))
        rows.append([rule["title"], *(f"{count} of {all_}" for count, all_ in counts)])
    compared = sum(record["compared"] for record in clean)
    lists = len(mute), "; ".join(mute) or "-", different, compared, "; ".join(alarmed) or "none"
    table = _table(
        ["rule", "alarms on faults", "of these none on the same cell unbroken", "false alarms on variants"], rows
    )
    return OTHERS.format(len(unbroken), defects, *lists, _true_alarms(unbroken)) + table


def _again(name, record):
    """The false alarms of a variant that was asked once more, for the page."""
    return ", ".join(sorted({*record["again"]} - explained(name, record))) or "none" if "again" in record else "-"


@functools.cache
def known_defects():
    """The tables of defects.toml."""
    return table_of(Path(__file__).with_name("defects.toml"))["defects"]


def explained(name, record):
    """The checks that a defect of the stack turns red in a variant, by its name and record in the study.

    One that comes and goes explains no check that is red again when the variant is asked once more.
    """
    cell, _, variant = name.partition(" ")
    of = [defect for defect in known_defects() if _meets(defect, cell, variant)]
    stays = {*record.get("again", record["red"])}
    return {check for defect in of for check in defect["checks"] if not (defect.get("intermittent") and check in stays)}


def _meets(defect, cell, variant):
    cells = any(fnmatch.fnmatch(cell, pattern) for pattern in defect["cells"])
    return cells and fnmatch.fnmatch(variant, defect["variant"])


def _true_alarms(unbroken):
    """A sentence for each defect of the stack that variants met."""
    found = []
    for defect in known_defects():
        met = [name for name in unbroken if _meets(defect, *name.split(" ", 1))]
        red = sum(
            bool({*unbroken[name]["red"]} & {*defect["checks"]} & explained(name, unbroken[name])) for name in met
        )
        if red:
            checks = "`, `".join(defect["checks"])
            found.append(f"Of {len(met)} variants {red} turned `{checks}` red, rightly: {defect['reason'].strip()}.\n")
    return "".join(found)


def _size(row, check):
    return f"{row[check]:g}" if check in row else "not seen"


def _sizes(found):
    smallest = collections.defaultdict(dict)
    for record in found["sizes"].values():
        row = smallest[record["fault"], record["precision"]]
        if not record["size"]:
            row["control"] = ", ".join(record["red"]) or "-"
            continue
        for check in [ANY, *record["red"]] if record["red"] else ():
            row[check] = min(row.get(check, math.inf), record["size"])
    rows = [
        [*key, *(_size(row, check) for check in (ANY, "logits", "regression")), row.get("control", "not run")]
        for key, row in sorted(smallest.items())
    ]
    lead = (
        "The smallest size at which a check is red, found by bisection over sizes 1, 2 and 5 in each decade, from 1e-6 "
        "on. A size is a share of what is changed (0.01 is 1 %); of norm eps it is what is added to it. The accepted "
        "ratio that `regression` compares with is the unbroken model's of the same run. The last column has the "
        "checks that are red where the fault is planted with size 0.\n\n"
        "![resolution](sharpness.svg)\n\n"
    )
    return "## Resolution\n\n" + lead + _table(["fault", "precision", ANY, "`logits`", "`regression`", "size 0"], rows)


def _each(records):
    rows = []
    for name, fault in faults().items():
        if name in records:
            named = [check for check in records[name]["red"] if check in fault.checks]
            by = f"`{'`, `'.join(named)}`" if named else records[name]["outcome"]
            rows.append([f"`{name}`", records[name]["cell"], fault.strikes, fault.smallest, by])
    lead = "The size is the planted one. Checks are those of the fault's own that turned red.\n\n"
    return "## Each fault\n\n" + lead + _table(["fault", "cell", "strikes", "size", "caught by"], rows)


WIDTH, HEIGHT, LEFT, STEP = 760, 40, 190, 24


def plot(sizes):
    """An SVG: a line for each graded fault and precision, filled where its size was seen, hollow where it was not."""
    rows = sorted({(record["fault"], record["precision"]) for record in sizes.values()})
    low, high = -6, 0
    across = lambda size: LEFT + (math.log10(size) - low) / (high - low) * (WIDTH - LEFT - 20)  # noqa: E731
    bottom = HEIGHT + STEP * len(rows)
    marks = []
    for power in range(low, high + 1):
        x = across(10**power)
        marks.append(f'<path d="M{x:.1f} 20V{bottom}" stroke="#ccc"/>')
        marks.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">1e{power}</text>')
    for place, row in enumerate(rows):
        y = HEIGHT + STEP * place
        marks.append(f'<text x="8" y="{y + 4}">{row[0].replace("_", " ")}, {row[1]}</text>')
        for record in sizes.values():
            if (record["fault"], record["precision"]) == row and record["size"]:
                fill = "#0068b5" if record["red"] else "none"
                title = ", ".join(record["red"]) or "not seen"
                marks.append(
                    f'<circle cx="{across(record["size"]):.1f}" cy="{y}" r="5" fill="{fill}" stroke="#0068b5">'
                    f"<title>{record['size']:g}: {title}</title></circle>"
                )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 24}" font-family="sans-serif"'
    return f'{head} font-size="12">\n' + "\n".join(marks) + "\n</svg>\n"
