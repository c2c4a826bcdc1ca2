"""Documents stay true: links lead somewhere, and every command that they show is one that the suite understands."""

import re
import shlex
import subprocess
import sys

import pytest

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("pytest", "python", "make")


def commands():
    """Every command in the fenced blocks of the documents, once, without its comment."""
    found = {}
    for path in DOCUMENTS:
        for block in re.findall(r"```(?:sh|yaml|groovy|text)?\n(.*?)```", path.read_text(), re.DOTALL):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                text = re.sub(r"^[$\s]*(?:- )?(?:run: |sh ')?(?:\.venv/bin/)?|\s+#.*$", "", line)
                if text.split(" ")[0] in PROGRAMS:
                    found[text] = path.name
    return [pytest.param(text, id=f"{name}: {text}") for text, name in found.items()]


def of(program):
    """The commands of one program."""
    return [found for found in commands() if found.values[0].split(" ")[0] == program]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        heads = (
            [re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in _headings(linked)] if anchor else []
        )
        assert not anchor or anchor in heads, f"{target}: {linked.name} has no such heading"


def _headings(path):
    return re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", of("pytest"))
def test_a_pytest_command_selects_tests(tmp_path, command):
    """Collected, not run: the cells themselves are what the suites test."""
    known = {"/models": str(tmp_path), "/other/env/bin/python": sys.executable}
    words = shlex.split(command)[1:]
    words = [re.sub("|".join(known), lambda found: known[found[0]], word) for word in words]
    more = [] if {"--matrix", "--waivers"} & {*words} else ["--collect-only", "-q"]
    run = fork_suite(tmp_path, *words, *more, "-o", f"cache_dir={tmp_path}", f"--results={tmp_path}")
    assert run.status in (0, 5), run.output
    # What nobody has here (an accelerator, a marker of its own) selects nothing; an option that is wrong exits with 4.
    assert run.status == 0 or "deselected" in run.output or "no tests" in run.output, run.output


@pytest.mark.parametrize("command", of("make"))
def test_a_make_target_exists(command):
    words = shlex.split(command)
    done = subprocess.run(
        [*words, "-n", "-o", ".venv/.installed"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", of("python"))
def test_a_module_takes_the_options_shown(command):
    words = shlex.split(command)[1:]
    if words[0] != "-m" or not words[1].startswith(("fixtures", "suites")):
        pytest.skip("not a module of this project")
    path = ROOT / words[1].replace(".", "/")
    source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    text = source.read_text()
    assert all(f'"{word}"' in text for word in words[2:] if word.startswith("--")), source
