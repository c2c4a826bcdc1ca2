"""Whatever stands in a file the suite reads: it is taken, or refused in one sentence with its name and a hint."""

import datetime
import json
import shutil
import sys

import pytest

from fixtures.matrix import load_matrix
from fixtures.measure import pretrained
from fixtures.measure.accuracy import Progress
from fixtures.measure.tasks import check_data
from fixtures.plugin import resume, waivers
from fixtures.plugin.collection import check_hosts
from fixtures.plugin.session import ONE_SENTENCE
from fixtures.report import matrix as verdicts
from fixtures.results import Baselines, Journal, Value
from fixtures.results.accepted import scores_of_record
from fixtures.results.runs import differences
from fixtures.results.scores import ScoreFiles
from fixtures.weights.against_row import check_config
from fixtures.weights.contents import check_code
from fixtures.weights.inspection import INDEX, check_folder, check_quantised
from fixtures.weights.reading import Tensors
from suites.meta.harness import sound_files
from suites.meta.harness.fuzzing import fuzz
from suites.meta.harness.inner import ROOT

LONGEST = 1500  # characters of a sentence
STACKS = sys.executable, sys.executable
EVERY_CELL = load_matrix()
MATRIX = ("models.toml", "architectures.toml", "platforms.toml", "claims.toml")


def taken_or_reported(kind, sound, path, read, others=(), after=lambda: None):
    """Write mutations of `sound` to `path` and `read` them: each is taken, or refused in one sentence about that file.

    `others` are names that it may be reported of instead, where files do not agree with each other.
    """

    def attempt(content):
        path.write_bytes(content)
        try:
            read()
        except (*ONE_SENTENCE, pytest.UsageError) as error:
            text = str(error)
            assert text.isprintable(), f"not one line that can be printed: {text!r}"
            assert len(text) <= LONGEST, f"{len(text)} characters: {text[:200]}"
            assert any(name in text for name in (path.name, *others)), f"{path.name} is not named: {text}"
            assert "; " in text, f"no hint: {text}"
        after()

    fuzz(kind, sound, attempt)


@pytest.mark.parametrize("name", MATRIX)
def test_matrix(tmp_path, name):
    for file in MATRIX:
        shutil.copy(ROOT / "fixtures/matrix" / file, tmp_path)
    sound = (tmp_path / name).read_bytes()
    taken_or_reported("toml_files", sound, tmp_path / name, lambda: load_matrix(tmp_path).all_cells(), MATRIX)


def test_waivers(tmp_path):
    sound = (ROOT / "baselines/waivers.toml").read_bytes() + sound_files.SCOPES

    def read():
        listed = waivers.listing(tmp_path, EVERY_CELL, *STACKS, datetime.date(2026, 1, 2))
        assert all(line.isprintable() for line in listed.splitlines())
        waivers.check_patterns(tmp_path, waivers.waivers_here(tmp_path, EVERY_CELL, *STACKS), EVERY_CELL)

    taken_or_reported("toml_files", sound, tmp_path / "waivers.toml", read)


def test_baselines(tmp_path):
    suite = "generation"
    real = next((ROOT / "baselines/cpu").glob(f"*/{suite}.json"))
    path = tmp_path / "cpu" / real.parent.name / real.name
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = next(iter(json.loads(real.read_bytes())["cells"]))

    def read():
        store = Baselines(tmp_path)
        store.find(suite, "cpu", real.parent.name, cell)
        store.elsewhere(suite, "cpu", cell)
        store.record(suite, "cpu", real.parent.name, "another", {"x": Value(1)}, 1)
        store.commit({"command": "pytest"})  # what was taken can be written again

    taken_or_reported("json_files", real.read_bytes(), path, read)


def test_scores(tmp_path):
    real = next((ROOT / "baselines/cpu").glob("*/accuracy/*bf16-cpu-single@*.json"))
    record = json.loads(real.read_bytes())
    record["documents"], record["n"] = record["documents"][:3], 3
    path = tmp_path / "cpu" / real.parent.parent.name / "accuracy" / real.name
    path.parent.mkdir(parents=True, exist_ok=True)
    address = (record["platform"], record["key"], record["cell"], record["task"])

    def read():
        found = ScoreFiles(tmp_path).find(*address)
        ScoreFiles(tmp_path).elsewhere("cpu", record["cell"], record["task"])
        scores_of_record(found)

    taken_or_reported("json_files", json.dumps(record).encode(), path, read)


def take_all(path):
    """All that a run takes from the one that it resumes, without the tests."""
    chain = resume.read_chain(path)
    if chain is not None:
        assert all(text.isprintable() for text in differences(chain.run, sound_files.IDENTITY))
        resume.check_replays(chain.finished, path, path.parent)
        return [resume.settled(record) for record in (*chain.finished.values(), *chain.first.values())]
    return []


@pytest.mark.parametrize("read", [verdicts.last_verdicts, take_all])
def test_journal(tmp_path, read):
    path = tmp_path / "journal.jsonl"

    def append():
        with Journal(path) as journal:  # a torn end is fixed, whatever stands before it
            journal.append({"n": 1})

    taken_or_reported("json_lines", sound_files.JOURNAL, path, lambda: read(path), after=append)


def test_documents_of_a_task(tmp_path):
    path = tmp_path / "lambada_standard.jsonl"
    taken_or_reported("json_lines", sound_files.DOCUMENTS, path, lambda: check_data(path))


def test_unfinished_scores(tmp_path):
    progress = Progress(tmp_path, "key")

    def attempt(content):
        progress.path.write_bytes(content)
        records = Progress(tmp_path, "key").records
        assert all(isinstance(record["metrics"], dict) for record in records.values())

    fuzz("json_lines", sound_files.RECORDS, attempt)


def test_hostfile(tmp_path):
    path = tmp_path / "hosts"
    taken_or_reported("text_files", sound_files.HOSTS, path, lambda: check_hosts(path))


def test_remembered_code(tmp_path, monkeypatch):
    path = tmp_path / "code" / f"row-{'0' * 40}.json"
    path.parent.mkdir()
    monkeypatch.setenv("XPU_LLM_CTS_CACHE", str(tmp_path))
    sound = json.dumps(sound_files.CODE).encode()
    taken_or_reported("json_files", sound, path, lambda: pretrained.remember(sound_files.CODE, "row", "0" * 40))


LLAMA = next(model for model in EVERY_CELL.models if model.id == "llama-2-7b")


def look_at(folder):
    """Everything that is done with a checkpoint's files before a worker loads them."""
    check_folder(folder)
    check_code(folder, LLAMA.id, "0" * 40)
    check_config(folder, LLAMA)
    tensors = Tensors(folder)
    return [tensors[name] for name in tensors if tensors.kind(name)[0] not in ("F8_E4M3", "F8_E5M2")]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", INDEX])
def test_checkpoint(tmp_path, name):
    files = sound_files.checkpoint(tmp_path, LLAMA)
    assert look_at(tmp_path)
    taken_or_reported("json_files", files[name], tmp_path / name, lambda: look_at(tmp_path))


def test_tensors(tmp_path):
    name = "model-00001-of-00002.safetensors"
    files = sound_files.checkpoint(tmp_path, LLAMA)
    taken_or_reported("safetensors_files", files[name], tmp_path / name, lambda: look_at(tmp_path))


@pytest.mark.parametrize(("name", "kind"), [("config.json", "json_files"), ("model.safetensors", "safetensors_files")])
def test_quantised_checkpoint(tmp_path, name, kind):
    files = sound_files.quantised(tmp_path)
    check_quantised(tmp_path)
    others = ["config.json", f"{tmp_path} has"]
    taken_or_reported(kind, files[name], tmp_path / name, lambda: check_quantised(tmp_path), others)
