"""The examples of docs/extend.md, added to a copy of the matrix as a reader adds them."""

import re
import shutil

from fixtures.matrix.loader import FOLDER
from suites.meta.harness.inner import ROOT

FILES = {"models": "models.toml", "architectures": "architectures.toml", "platforms": "platforms.toml"}
FILES |= {"claims": "claims.toml"}
# The device type of this example is made in code, by steps of its own.
OF_CODE = "gaudi2"
FAMILY = re.compile(r"such as `(\w+ = \"[^\"]+\")`, and append the model")


def tables():
    """(file of the matrix, text) of every TOML example that adds to one."""
    text = (ROOT / "docs/extend.md").read_text()
    for block in re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        heading = re.match(r"\[+(\w+)", block)
        group = heading[1] if heading else ""
        if group in FILES and OF_CODE not in block:
            yield FILES[group], block


def add_examples(folder):
    """Copy the shipped matrix to `folder` and append every example to its file."""
    for file in FOLDER.glob("*.toml"):
        shutil.copy(file, folder)
    for file, block in tables():
        (folder / file).open("a").write(f"\n{block}")
    models = folder / "models.toml"
    family = FAMILY.search((ROOT / "docs/extend.md").read_text())[1]
    models.write_text(models.read_text().replace("[families]\n", f"[families]\n{family}\n", 1))
