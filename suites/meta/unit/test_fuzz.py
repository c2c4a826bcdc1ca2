"""Whatever stands in a file the suite reads: it is taken, or refused in one sentence with the file's name and a hint.

XPU_LLM_CTS_FUZZ=N tries N mutations for each reader, by chance anew each time; `make fuzz` does 5000.
"""

import datetime
import json
import os
import shutil
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from fixtures.matrix import config_entries, load_matrix
from fixtures.measure import pretrained
from fixtures.measure.accuracy import Progress
from fixtures.measure.tasks import check_data
from fixtures.plugin import resume, waivers
from fixtures.plugin.collection import check_hosts
from fixtures.plugin.session import ONE_SENTENCE
from fixtures.report import matrix as verdicts
from fixtures.results import Baselines, Journal, Value
from fixtures.results.accepted import _scores
from fixtures.results.runs import differences
from fixtures.results.scores import ScoreFiles
from fixtures.weights.contents import check_code
from fixtures.weights.inspection import INDEX, check_folder, check_geometry, check_quantised
from fixtures.weights.reading import Tensors
from suites.meta.faults import files as mutations
from suites.meta.harness import sound_files
from suites.meta.harness.inner import ROOT

set_hypothesis_home_dir(ROOT / ".pytest_cache" / "hypothesis")
DEEP = int(os.environ.get("XPU_LLM_CTS_FUZZ", "0"))
LONGEST = 1500  # characters of a sentence
fuzzed = settings(
    max_examples=DEEP or 25,
    derandomize=not DEEP,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
EVERY_CELL = load_matrix()
MATRIX = ("models.toml", "architectures.toml", "platforms.toml", "claims.toml")


def taken_or_reported(path, content, read, others=()):
    """Write `content` to `path` and `read` it; whatever is refused is refused in one sentence about that file.

    `others` are names that it may be reported of instead, where files do not agree with each other.
    """
    path.write_bytes(content)
    try:
        read()
    except (*ONE_SENTENCE, pytest.UsageError) as error:
        text = str(error)
        assert text.isprintable(), f"not one line that can be printed: {text!r}"
        assert len(text) <= LONGEST, f"{len(text)} characters: {text[:200]}"
        assert any(name in text for name in (path.name, *others)), f"{path.name} is not named: {text}"
        assert "; " in text, f"no hint: {text}"


@pytest.mark.parametrize("name", MATRIX)
@fuzzed
@given(data=st.data())
def test_matrix(tmp_path, name, data):
    for file in MATRIX:
        shutil.copy(ROOT / "fixtures/matrix" / file, tmp_path)
    content = data.draw(mutations.toml_files((ROOT / "fixtures/matrix" / name).read_bytes()))
    taken_or_reported(tmp_path / name, content, lambda: load_matrix(tmp_path).all_cells(), MATRIX)


@fuzzed
@given(content=mutations.toml_files((ROOT / "baselines/waivers.toml").read_bytes() + sound_files.SCOPES))
def test_waivers(tmp_path, content):
    def read():
        listed = waivers.listing(tmp_path, EVERY_CELL, sys.executable, datetime.date(2026, 1, 2))
        assert all(line.isprintable() for line in listed.splitlines())
        waivers.check_patterns(tmp_path, waivers.waivers_here(tmp_path, EVERY_CELL, sys.executable), EVERY_CELL)

    taken_or_reported(tmp_path / "waivers.toml", content, read)


@pytest.mark.parametrize("suite", ["latency", "generation"])
@fuzzed
@given(data=st.data())
def test_baselines(tmp_path, suite, data):
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

    taken_or_reported(path, data.draw(mutations.json_files(real.read_bytes())), read)


@fuzzed
@given(data=st.data())
def test_scores(tmp_path, data):
    real = next((ROOT / "baselines/cpu").glob("*/accuracy/*bf16-cpu-single@*.json"))
    record = json.loads(real.read_bytes())
    record["documents"], record["n"] = record["documents"][:3], 3
    path = tmp_path / "cpu" / real.parent.parent.name / "accuracy" / real.name
    path.parent.mkdir(parents=True, exist_ok=True)
    address = (record["platform"], record["key"], record["cell"], record["task"])

    def read():
        found = ScoreFiles(tmp_path).find(*address)
        ScoreFiles(tmp_path).elsewhere("cpu", record["cell"], record["task"])
        _scores(found)

    taken_or_reported(path, data.draw(mutations.json_files(json.dumps(record).encode())), read)


def take_all(path):
    """All that a run takes from the one that it resumes, without the tests."""
    chain = resume.read_chain(path)
    if chain is not None:
        assert all(text.isprintable() for text in differences(chain.run, sound_files.IDENTITY))
        resume.check_replays(chain.finished, path, path.parent)
        return [resume.settled(record) for record in (*chain.finished.values(), *chain.first.values())]
    return []


@fuzzed
@given(content=mutations.json_lines(sound_files.JOURNAL))
def test_journal(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    taken_or_reported(path, content, lambda: verdicts.last_verdicts(path))
    taken_or_reported(path, content, lambda: take_all(path))
    with Journal(path) as journal:  # a torn end is fixed, whatever stands before it
        journal.append({"n": 1})


@fuzzed
@given(content=mutations.json_lines(sound_files.DOCUMENTS))
def test_documents_of_a_task(tmp_path, content):
    path = tmp_path / "lambada_standard.jsonl"
    taken_or_reported(path, content, lambda: check_data(path))


@fuzzed
@given(content=mutations.json_lines(sound_files.RECORDS))
def test_unfinished_scores(tmp_path, content):
    progress = Progress(tmp_path, "key")
    progress.path.write_bytes(content)
    records = Progress(tmp_path, "key").records
    assert all(isinstance(record["metrics"], dict) for record in records.values())


@fuzzed
@given(content=mutations.text_files(sound_files.HOSTS))
def test_hostfile(tmp_path, content):
    path = tmp_path / "hosts"
    taken_or_reported(path, content, lambda: check_hosts(path))


@fuzzed
@given(content=mutations.json_files(json.dumps(sound_files.CODE).encode()))
def test_remembered_code(tmp_path, content):
    path = tmp_path / "code" / f"row-{'0' * 40}.json"
    path.parent.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XPU_LLM_CTS_CACHE", str(tmp_path))
        taken_or_reported(path, content, lambda: pretrained.remember(sound_files.CODE, "row", "0" * 40))


LLAMA = next(model for model in EVERY_CELL.models if model.id == "llama-2-7b")


def look_at(folder):
    """Everything that is done with a checkpoint's files before a worker loads them."""
    check_folder(folder)
    check_code(folder, LLAMA.id, "0" * 40)
    check_geometry(folder, config_entries(LLAMA), LLAMA.id)
    tensors = Tensors(folder)
    return [tensors[name] for name in tensors if tensors.kind(name)[0] not in ("F8_E4M3", "F8_E5M2")]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", INDEX])
@fuzzed
@given(data=st.data())
def test_checkpoint(tmp_path, name, data):
    files = sound_files.checkpoint(tmp_path, LLAMA)
    assert look_at(tmp_path)
    taken_or_reported(tmp_path / name, data.draw(mutations.json_files(files[name])), lambda: look_at(tmp_path))


@fuzzed
@given(data=st.data())
def test_tensors(tmp_path, data):
    name = "model-00001-of-00002.safetensors"
    files = sound_files.checkpoint(tmp_path, LLAMA)
    taken_or_reported(tmp_path / name, data.draw(mutations.safetensors_files(files[name])), lambda: look_at(tmp_path))


@fuzzed
@given(data=st.data())
def test_quantised_checkpoint(tmp_path, data):
    name = data.draw(st.sampled_from(["config.json", "model.safetensors"]))
    files = sound_files.quantised(tmp_path)
    mutate = mutations.json_files if name == "config.json" else mutations.safetensors_files
    check_quantised(tmp_path)
    content = data.draw(mutate(files[name]))
    taken_or_reported(tmp_path / name, content, lambda: check_quantised(tmp_path), ["config.json", f"{tmp_path} has"])
