"""The glossary holds: words of the left column stand in no code, message or document."""

import re
import subprocess

import pytest

from suites.meta.harness.inner import ROOT

# docs/glossary.md has the terms that replaced them.
PRIVATE = (
    *("pace", "yardstick", "lane", "lanes", "zygote", "zygotes", "stage", "stages", "ledger", "judge", "judges"),
    *("trouble", "mend", "mends", "mended", "fate", "fates", "bench", "endings", "torture", "traps", "metal"),
    *("truth", "provided", "wire", "Ordeal", "told"),
)
# Where one may stand, and why.
ALLOWED = {
    "lanes": ("link", "lanes is not None"),  # of a PCIe link
    "metal": ("Metal",),
}
FILES = ("*.py", "*.md", "*.toml", "*.ini", "*.yaml", "Makefile")
LEFT_OUT = (
    "CHANGELOG.md",
    "docs/glossary.md",
    "suites/meta/unit/test_words.py",
    "fixtures/weights/baichuan/",
    "fixtures/tasks/",
)


def lines():
    """(file:line, text) of every tracked line of code, data and documents."""
    names = subprocess.run(
        ["git", "ls-files", *FILES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in names:
        if not name.startswith(LEFT_OUT) and (ROOT / name).exists():
            for number, text in enumerate((ROOT / name).read_text().splitlines(), start=1):
                yield f"{name}:{number}", text


@pytest.mark.parametrize("word", PRIVATE)
def test_a_private_word_stands_nowhere(word):
    rule = re.compile(rf"(?<![A-Za-z]){word}(?![A-Za-z])", re.IGNORECASE)
    allowed = ALLOWED.get(word, ())
    found = [f"{place}: {text.strip()}" for place, text in lines() if rule.search(text)]
    found = [text for text in found if not any(reason in text for reason in allowed)]
    assert not found, "\n".join(found[:20])
