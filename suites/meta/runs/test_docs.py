"""Documents stay true: links lead somewhere, and every command that they show is one that the suite understands."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT, Run

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("pytest", "python", "make")


# Blocks in these languages hold commands; the empty one is output, which may begin with the command that made it.
SHELLS = ("sh", "yaml", "groovy", "text", "")


def blocks(text):
    """(language, content) of every fenced block, whatever languages the blocks around it have."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)


def commands():
    """Every command in the fenced blocks of the documents, once, without its comment, after what its block exports."""
    found = {}
    for path in DOCUMENTS:
        for language, block in blocks(path.read_text()):
            exported = ""
            for line in re.sub(r"\\\n\s*", " ", block).splitlines() if language in SHELLS else ():
                text = re.sub(r"^[$\s]*(?:- )?(?:run: |sh ')?(?:\.venv/bin/)?|\s+#.*$", "", line)
                if text.startswith("export PYTEST_ADDOPTS="):
                    exported = text.removeprefix("export ") + " "
                if text.split(" ")[0] in PROGRAMS:
                    found[exported + text] = path.name
    return [pytest.param(text, id=f"{name}: {text}") for text, name in found.items()]


def of(program):
    """The commands of one program; `python -m pytest` is pytest."""
    starts = {"pytest": r"(PYTEST_ADDOPTS=\S.* )?(python -m )?pytest\b", "python": r"python (?!-m pytest\b)"}
    return [found for found in commands() if re.match(starts.get(program, program), found.values[0])]


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


# What a reader of a document has made by then: folders, another stack, and the fault of the example.
MADE = {"/tmp/matrix": str(ROOT / "fixtures/matrix")}
# And the rows, platforms and suites that the reader has added, by names that are shipped.
MADE |= {"codellama-7b": "llama-2-7b", "pythia-6.9b": "opt-6.7b", "my-llama": "llama-3-8b"}
MADE |= {"b70": "b60", "gaudi2": "max1550", "test_load": "test_latency"}


@pytest.mark.nightly
@pytest.mark.parametrize("command", of("pytest"))
def test_a_pytest_command_selects_tests(tmp_path, command):
    """Collected, not run: the cells themselves are what the suites test."""
    key = tmp_path / "owner.pem"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    known = {"/models": str(tmp_path), "/other/env/bin/python": sys.executable, "owner.pem": str(key), **MADE}
    text = re.sub("|".join(known), lambda found: known[found[0]], command)
    if "--compare-runs" in text:
        pytest.skip("it needs two journals; suites/meta/unit/test_views.py compares some")
    more = [] if re.search("--(matrix|waivers)$|--matrix ", text) else ["--collect-only"]
    more += [] if " -q" in text or not more else ["-q"]
    run = collected(tmp_path, text, *more, "-o", f"cache_dir={tmp_path}", f"--results={tmp_path}")
    assert run.status in (0, 5), run.output
    # What nobody has here (an accelerator, a marker of its own) selects nothing; an option that is wrong exits with 4.
    assert run.status == 0 or "deselected" in run.output or "no tests" in run.output, run.output


def collected(folder, text, *more):
    """The Run of a pytest command as a shell at the project's root runs it; forked where no module is named in it."""
    words = shlex.split(text)
    variables = dict(word.split("=", 1) for word in words if word.startswith("PYTEST_ADDOPTS="))
    start = words.index("pytest")
    if "suites." not in text:
        return fork_suite(folder, *words[start + 1 :], *more, environment=variables)
    # Whether a module can be imported depends on the program: `pytest` has no project root on its path.
    scripts = Path(sysconfig.get_path("scripts"))
    program = [sys.executable, "-m", "pytest"] if "python" in words[:start] else [scripts / "pytest"]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST") and name != "PYTHONPATH"
    }
    done = subprocess.run(
        [*program, *words[start + 1 :], *more],
        cwd=ROOT, env=clean | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, {})


def test_blocks_of_other_languages_hide_no_command():
    text = "```toml\na = 1\n```\n\n```sh\npytest -m one\n```\n"
    assert blocks(text) == [("toml", "a = 1\n"), ("sh", "pytest -m one\n")]
    named = [name for found in commands() for name in [found.id.split(":")[0]]]
    assert named.count("extend.md") > 8, "extend.md shows more commands than were found"


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
