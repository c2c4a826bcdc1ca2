"""The house rules that a linter does not know: sizes of files, and what may stand at the top of a folder."""

import re
import subprocess

from suites.meta.harness.inner import ROOT

LONGEST = 400  # lines of a file


def tracked(*patterns):
    return subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_files_stay_short_enough_to_read():
    sizes = {name: (ROOT / name).read_text().count("\n") for name in tracked("*.py") if (ROOT / name).exists()}
    assert len(sizes) > 150
    assert not {name: size for name, size in sizes.items() if size > LONGEST}


def test_no_module_lies_loose_at_the_top():
    assert [name for name in tracked("fixtures/*.py") if name.count("/") == 1] == ["fixtures/__init__.py"]


def test_no_module_is_a_drawer():
    assert not [name for name in tracked("*.py") if re.search(r"(^|/)(utils|helpers|misc|common)\.py$", name)]


def test_no_private_api_of_pytest():
    rule = re.compile(r"(?<!['\w])_pytest\b|_setupstate|\._initrequest")
    mine = "suites/meta/unit/test_house.py"
    found = [name for name in tracked("*.py") if name != mine and rule.search((ROOT / name).read_text())]
    assert not found


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") <= 150
