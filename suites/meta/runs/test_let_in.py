"""What a checkpoint may bring: hostile folders through the real command line, and nothing of them ever runs."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fixtures.matrix import load_matrix
from fixtures.measure import pretrained
from fixtures.weights.contents import CheckpointError, check_code, check_contents, what_runs
from fixtures.weights.inspection import check_folder
from fixtures.weights.reading import write_tensors
from suites.meta.faults import checkpoints
from suites.meta.harness import sound_files
from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT, SHORT, generation, nodes, run_suite
from suites.meta.runs.test_cli import CELLS, refused

MODELS = {model.id: model for model in load_matrix().models}
CODELESS = [model for model in MODELS.values() if not model.remote_code and model.weights != "packaged"]
SPOILT = dict(zip((model.id for model in CODELESS), checkpoints.REFUSED, strict=False))
REVISION = "0123456789abcdef" * 2 + "01234567"
# Secrets that are in the environment, and in every path and so in every sentence of the run.
SECRETS = {"HF_TOKEN": "hf_" + "aB3dE5gH7j" * 3, "DATABASE_PASSWORD": "correct-horse"}


def cell_of(model):
    return f"{model}-fp32-cpu-single"


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """One run over every hostile checkpoint: (run, its folder, canary)."""
    folder = tmp_path_factory.mktemp("refusals")
    canary, root = folder / "canary", folder / "-".join(SECRETS.values())
    for model, spoil in SPOILT.items():
        checkpoints.make(root, MODELS[model], spoil, canary)
    cells = nodes("generation", map(cell_of, SPOILT))
    return run_suite(folder, *SHORT, "-rA", "--model-root", str(root), *cells, environment=SECRETS), folder, canary


def test_every_hostile_checkpoint_has_a_model_to_pass_for():
    assert list(SPOILT.values()) == list(checkpoints.REFUSED)


@pytest.mark.parametrize("model", SPOILT)
def test_a_hostile_checkpoint_is_one_sentence(refusals, model):
    verdict, outcome, message, _ = refusals[0].tests[generation(cell_of(model))]
    assert (verdict, outcome) == ("FAIL", "failure")
    # JUnit has it twice, the first time shortened.
    lines = dict.fromkeys(line.strip() for line in message.splitlines() if line.strip(" ") and "[+1 more" not in line)
    assert [line.split()[0] for line in lines] == ["FAIL:", "usable", "reproduce:"], message
    for words in checkpoints.REFUSED[SPOILT[model]]:
        assert words in message


def test_nothing_of_a_hostile_checkpoint_ran(refusals):
    run, _, canary = refusals
    assert run.status == 1
    assert "Traceback" not in run.output
    assert not canary.exists()


@pytest.mark.parametrize("secret", SECRETS.values())
def test_no_secret_is_reported(refusals, secret):
    run, folder, _ = refusals
    reported = {"terminal": run.output} | {n: (folder / n).read_text() for n in ("junit.xml", "journal.jsonl")}
    for place, text in reported.items():
        assert secret not in text, place
        assert "[redacted]" in text, place


READ = {  # how each payload would run, were it read
    "pytorch_model.bin": "import pickle; pickle.load(open(sys.argv[1], 'rb'))",
    "consolidated.00.pt": "import pickle, zipfile; pickle.loads(zipfile.ZipFile(sys.argv[1]).read('archive/data.pkl'))",
    "modeling_x.py": "import runpy; runpy.run_path(sys.argv[1])",
}


@pytest.mark.parametrize("name", READ)
def test_the_canary_could_have_been_left(tmp_path, name):
    for spoil in (checkpoints.pickle_beside_good_weights, checkpoints.zipped_pickle, checkpoints.code_in_config):
        checkpoints.make(tmp_path / spoil.__name__, MODELS["llama-2-7b"], spoil, tmp_path / "canary")
    path = next(tmp_path.rglob(name))
    subprocess.run([sys.executable, "-c", f"import sys; {READ[name]}", str(path)], check=True)
    assert (tmp_path / "canary").exists()


# -- with the switch ----

SMALL = """
[models.opt-small]
like = "opt-6.7b"
hub_id = "nobody/opt-small"
geometry = { layers = 2, hidden = 512, intermediate = 1024, heads = 4, kv_heads = 4, vocabulary = 1024 }
"""


@pytest.fixture(scope="module")
def allowed(runtime, tmp_path_factory):
    """A run with --allow-remote-code over a sound checkpoint that brings code, and its folder."""
    folder = tmp_path_factory.mktemp("allowed")
    matrix, root, canary = folder / "matrix", folder / "models", folder / "canary"
    shutil.copytree(ROOT / "fixtures/matrix", matrix, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with (matrix / "models.toml").open("a") as file:
        file.write(SMALL)
    shutil.copytree(runtime.weights.of(MODELS["opt-6.7b"], "cpu").folder, root / "opt-small")
    checkpoints.module(root / "opt-small", canary)
    checkpoints.make(root, MODELS["opt-30b"], checkpoints.code_of_another_repository, canary)
    options = ["--matrix-data", str(matrix), "--model-root", str(root), "--allow-remote-code", REVISION]
    (folder / "baselines").mkdir()
    options += ["--update-baselines", "--baselines", str(folder / "baselines")]
    cells = nodes("generation", [cell_of("opt-small"), cell_of("opt-30b")])
    run = run_suite(folder, *SHORT, *options, *cells, environment={"XPU_LLM_CTS_CACHE": str(folder / "cache")})
    return run, folder


def test_code_that_is_let_in_is_recorded_with_its_digests(allowed):
    run, folder = allowed
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    record = next(record for record in records if record.get("cell") == cell_of("opt-small"))
    assert "logits" in {line["check"] for line in record["lines"]}, run.output
    digests = check_code(folder / "models/opt-small", "opt-small", REVISION)
    assert record["code"] == {"revision": REVISION, "runs": False, "files": digests}
    assert not (folder / "canary").exists(), "the row runs classes of the library"


def test_provenance_of_accepted_values_names_the_code(allowed):
    (path,) = (allowed[1] / "baselines").rglob("generation.json")
    (origin,) = json.loads(path.read_text())["provenance"].values()
    assert origin["code"]["opt-small"]["revision"] == REVISION


def test_code_of_another_repository_is_refused_with_the_switch_too(allowed):
    message = allowed[0].tests[generation(cell_of("opt-30b"))][2]
    assert "names 'someone/else--modeling_x.X', which is no code of this folder" in message


def test_other_code_under_the_same_revision_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("XPU_LLM_CTS_CACHE", str(tmp_path / "cache"))
    model = MODELS["llama-2-7b"]
    folder = checkpoints.make(tmp_path, model, checkpoints.code_in_config, tmp_path / "canary")
    for _ in range(2):
        pretrained.checkpoint(model, tmp_path, REVISION)
    with (folder / "modeling_x.py").open("a") as file:
        file.write("# other\n")
    with pytest.raises(CheckpointError, match=f"another 'modeling_x.py' than revision {REVISION} had"):
        pretrained.checkpoint(model, tmp_path, REVISION)
    pretrained.checkpoint(model, tmp_path, REVISION[::-1])


def test_the_pinned_revision_is_the_only_one(tmp_path):
    model = MODELS["baichuan2-13b"]
    folder = checkpoints.make(tmp_path, model, checkpoints.code_in_config, tmp_path / "canary")
    assert list(check_code(folder, model.id, model.revision, model.revision)) == ["modeling_x.py"]
    with pytest.raises(CheckpointError, match=f"pins that of baichuan2-13b to {model.revision}"):
        check_code(folder, model.id, REVISION, model.revision)


@pytest.mark.parametrize("revision", ["main", "a56c793", REVISION.upper()])
def test_a_revision_that_pins_nothing_is_one_sentence(tmp_path, revision):
    run = fork_suite(tmp_path, *CELLS, "--collect-only", "--allow-remote-code", revision)
    refused(run, "--allow-remote-code", "40 hexadecimal")


SCRIPTS = """
import sys
sys.modules.update(intel_extension_for_pytorch=None, deepspeed=None)  # which others would import, in vain
import datasets
from pathlib import Path
from fixtures.engine.scoring import forbid_code_of_data

for name in ("before", "after"):
    script = Path(sys.argv[1]) / f"{name}.py"
    script.write_text(f"open({str(script.with_suffix('.ran'))!r}, 'w')")
    try:
        datasets.load_dataset(str(script), trust_remote_code=True)
    except Exception as error:
        print(name, error)
    forbid_code_of_data()
"""


def test_scripts_of_data_sets_never_run(tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", SCRIPTS, str(tmp_path)], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "before.ran").exists(), "the script could have run"
    assert not (tmp_path / "after.ran").exists()


# -- the hub's cache ----


@pytest.fixture
def snapshot(tmp_path):
    """A snapshot as the hub's client lays it out: links to blobs of the same repository."""
    model = MODELS["llama-2-7b"]
    repository = tmp_path / f"models--{model.hub_id.replace('/', '--')}"
    folder = repository / "snapshots" / REVISION
    for place in (folder, repository / "blobs", repository / "refs"):
        place.mkdir(parents=True)
    (repository / "refs/main").write_text(REVISION)
    sound_files.checkpoint(folder, model)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(repository / "blobs" / str(number))
        path.symlink_to(f"../../blobs/{number}")
    return folder


def test_links_of_the_hubs_cache_are_followed(snapshot, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(snapshot.parents[2]))
    assert pretrained.checkpoint(MODELS["llama-2-7b"], None, None) == (snapshot, {})
    checkpoints.pickle_beside_good_weights(snapshot, snapshot / "canary")
    with pytest.raises(CheckpointError, match="may hold a pickle"):
        pretrained.checkpoint(MODELS["llama-2-7b"], None, None)


def test_links_to_another_repository_of_the_cache_are_refused(snapshot):
    other = snapshot.parents[2] / "models--a--b" / "blobs"
    other.mkdir(parents=True)
    (snapshot / "tokenizer.json").rename(other / "0")
    (snapshot / "tokenizer.json").symlink_to(other / "0")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is a link out of the folder"):
        check_contents(snapshot)


# -- files by their first bytes ----


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_known_under_any_name(protocol):
    assert what_runs(pickle.dumps(checkpoints.Payload("x"), protocol)) == "a pickle"


@pytest.mark.parametrize("length", [0x0280, 0x4B0280, 0x2E0580])
def test_no_header_of_safetensors_is_taken_for_a_pickle(length):
    start = length.to_bytes(8, "little") + b'{"a": {"dtype": "F32"'
    assert what_runs(start) == ""


@pytest.mark.parametrize(("change", "words"), [
    ({"b": [0, 24]}, "overlaps 'a'"),
    ({"b": [32, 56]}, "leaves a gap behind 'a'"),
    ({"b": [48, 24]}, "a place that does not fit"),
])  # fmt: skip
def test_tensors_that_overlap_or_leave_gaps_are_refused(tmp_path, change, words):
    (tmp_path / "config.json").write_text("{}")
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    header = {"a": entry, **{name: {**entry, "data_offsets": place} for name, place in change.items()}}
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 56)
    with pytest.raises(CheckpointError, match=words):
        check_folder(tmp_path)


@pytest.mark.parametrize(("make", "words"), [
    (os.mkfifo, "is not a regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "is a link out of the folder, to /dev/zero"),
    (lambda path: path.symlink_to(path.name), "cannot be read"),
    (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
])  # fmt: skip
def test_what_is_no_file_is_never_waited_for(tmp_path, make, words):
    sound_files.checkpoint(tmp_path, MODELS["llama-2-7b"])
    make(tmp_path / "special_tokens_map.json")
    with pytest.raises(CheckpointError, match=rf"special_tokens_map\.json {words}"):
        check_folder(tmp_path)


def test_a_single_file_beside_an_index_is_refused(tmp_path):
    sound_files.checkpoint(tmp_path, MODELS["llama-2-7b"])
    write_tensors(tmp_path / "model.safetensors", {"a": np.zeros(2)})
    with pytest.raises(CheckpointError, match="of which loaders choose differently"):
        check_folder(tmp_path)
