"""The house rules that a linter does not know: sizes of files, and what may stand at the top of a folder."""

import ast
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


def without_encoding(source):
    """Lines of calls that read or write text in the encoding of the terminal's locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        if isinstance(node.func, ast.Attribute):
            read = node.func.attr == "read_text" and not node.args
            if read or (node.func.attr == "write_text" and len(node.args) < 2):
                yield node.lineno
        elif isinstance(node.func, ast.Name) and node.func.id == "open":
            mode = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else "r"
            if "b" not in mode:
                yield node.lineno


def test_no_file_is_read_in_the_encoding_of_a_terminal():
    assert sorted(without_encoding("open('a').read()\nPath('b').read_text()\nopen('c', 'rb')\n")) == [1, 2]
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in tracked("fixtures/*.py")}
    assert not {name: found for name, text in sources.items() if (found := [*without_encoding(text)])}
    assert not [name for name, text in sources.items() if "text=True" in text], "give subprocess an encoding"
