"""The command line: what is collected and at what cost, the matrix in print, and one clear sentence for a bad input."""

import json
import shutil
import subprocess
import sys

import pytest

from fixtures.matrix import load_matrix
from suites.meta.harness.arithmetic import needs_bf16
from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT, run_suite

CELLS = ["suites/test_generation.py", "suites/test_latency.py"]
LIST = ["--collect-only", "-q"]


def test_the_whole_matrix_is_listed(tmp_path):
    run = run_suite(tmp_path, "--platform", "all", *LIST, *CELLS)
    assert run.status == 0
    for cell in (cell for cell in load_matrix().all_cells() if cell.mode != "tpplan"):
        assert f"test_generation[{cell.id}]" in run.output
        assert f"test_latency[{cell.id}]" in run.output


@pytest.mark.parametrize(("expression", "inside", "outside"), [
    ("llama2 and int4", "llama-2-7b-int4-max1550-single", "llama-2-7b-fp16-max1550-single"),
    ("max1550", "bloom-fp16-max1550-autotp", "bloom-fp16-max1100-autotp"),
    ("autotp and cpu", "glm-4-9b-bf16-cpu-autotp", "glm-4-9b-bf16-cpu-single"),
    ("core-ultra and not int4", "phi-3-mini-4k-fp16-core-ultra-single", "phi-3-mini-4k-int4-core-ultra-single"),
])  # fmt: skip
def test_markers_select_cells(tmp_path, expression, inside, outside):
    run = fork_suite(tmp_path, "--platform", "all", *LIST, "-m", expression, *CELLS)
    assert run.status == 0
    assert f"test_generation[{inside}]" in run.output
    assert f"test_generation[{outside}]" not in run.output


def test_names_select_models(tmp_path):
    run = fork_suite(tmp_path, *LIST, "--platform", "cpu", "-k", "llama-2-7b", *CELLS)
    assert "test_generation[llama-2-7b-bf16-cpu-single]" in run.output
    assert "llama-2-13b" not in run.output


@pytest.mark.parametrize(("words", "sentence"), [
    (["-m", "lama2", *LIST], "-m lama2: there is no marker of this name; did you mean llama2 or llama3?"),
    (["-m", "llama2 and not int5"], "-m int5: there is no marker of this name; did you mean int4?"),
    (["-m", "zzz"], "-m zzz: there is no marker of this name; `pytest --markers` lists them"),
    (["-k", "lama-7b"], "-k lama-7b: no test of a cell has this in its name; did you mean llama-2-7b"),
    (["-k", "llama-2-7b and nosuchmodel"], "-k nosuchmodel: no test of a cell has this in its name; `pytest --matrix`"),
])  # fmt: skip
def test_a_word_that_names_nothing_gets_the_nearest_before_anything_runs(tmp_path, words, sentence):
    run = fork_suite(tmp_path, "--platform", "cpu", *words, *CELLS)
    assert run.status == 4
    assert sentence in run.output
    assert run.output.count(sentence.split(":")[0]) == 1
    assert "stack:" not in run.output  # nothing was asked of the machine


def test_a_selection_of_known_words_that_is_empty_is_reported(tmp_path):
    run = fork_suite(tmp_path, *LIST, "--platform", "cpu", "-k", "llama-2-7b and max1550", *CELLS)
    assert run.status == 5
    assert "no test matches -k 'llama-2-7b and max1550' and the other options; `pytest --matrix`" in run.output
    assert "no test matches" not in fork_suite(tmp_path, *LIST, "-k", "llama-2-7b", *CELLS).output


@pytest.mark.parametrize(("words", "status"), [
    (["-m", "representative and nightly", *CELLS], 5),  # a marker of pytest.ini
    (["-k", "test_generation[llama-2-7b-fp32-cpu-single]", *CELLS], 0),
    (["-k", "test_LATENCY.py and single and cpu", *CELLS], 0),
    (["-k", "test_the_examples_hold", "suites/meta/unit/test_numbers.py"], 0),  # names of other tests are not known
    (["-k", "tp_mpirun or glm", "suites/test_distributed.py"], 0),
])  # fmt: skip
def test_a_word_that_names_something_selects(tmp_path, words, status):
    assert fork_suite(tmp_path, *LIST, "--platform", "cpu", *words).status == status


def test_collecting_imports_no_torch():
    code = (
        "import sys, pytest; status = pytest.main(['--platform', 'all', '--collect-only', '-q', *sys.argv[1:]]);"
        "print('heavy:', sorted({'torch', 'transformers', 'intel_extension_for_pytorch'} & set(sys.modules)), status)"
    )
    command = [sys.executable, "-c", code, *CELLS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "heavy: [] 0" in result.stdout.replace("ExitCode.OK", "0")


def test_the_matrix_is_printed_with_sources_and_contradictions(tmp_path):
    run = run_suite(tmp_path, "--matrix")
    assert run.status == 0
    for words in ("Llama-2-7b-hf", "Supported Platforms", "footnote", "4.48.3", "Mistral"):
        assert words in run.output


def test_a_forked_run_says_and_ends_as_a_fresh_one(tmp_path):
    selected = [*CELLS, "--threads", "-1"]
    fresh, forked = run_suite(tmp_path, *selected), fork_suite(tmp_path, *selected)
    assert fresh.status == forked.status == 4
    assert fresh.output == forked.output


def refused(run, *words):
    """A usage error in one line that holds `words`, with a non-zero status and no traceback."""
    lines = [line for line in run.output.splitlines() if all(word in line for word in words)]
    assert run.status != 0
    assert lines, run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output
    return lines[0]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--platform", "max1550"], ["--platform max1550", "has no max1550", "--collect-only"]),
    (["--platform", "max1550"], ["no kernel node of type xpu was found", "tells no xpu device: torch.xpu"]),
    (["--threads", "-1"], ["--threads", "whole number"]),
    (["--deadline", "0"], ["--deadline", "positive"]),
    (["--platform", "max1650"], ["max1650", "max1550"]),
    (["--benchmark-compare", "suites/"], ["--benchmark-compare took 'suites/'", "last argument"]),
    (["--benchmark-compare", "0001"], ["--benchmark-compare took '0001'"]),
    (["--benchmark-compare-fail", "min:5%"], ["--benchmark-compare-fail", "--benchmark-compare"]),
    (["--benchmark-compare-fail", "min:5%", "--benchmark-compare-fail", "mean:9%"], ["--benchmark-compare-fail"]),
    (["--num-beams", "x"], ["ERROR: --num-beams is 'x'; give a whole number"]),
    (["--model-root=/nope"], ["--model-root", "/nope does not exist", "name a folder"]),
    (["--model-root=README.md"], ["--model-root", "README.md is a file", "name the folder"]),
    (["--baselines=baselines/waivers.toml"], ["--baselines", "is a file", "name the folder that holds it"]),
    (["--baselines=/nope"], ["--baselines /nope: there is no such folder", "leave it out"]),
    (["--bundle=/nope/run.bundle"], ["--bundle /nope/run.bundle: there is no folder /nope"]),
    (["--bundle=docs"], ["--bundle docs is a folder; name a file in it"]),
    (["--bundle=run.bundle", "--bundle-key=/nope.pem"], ["--bundle-key /nope.pem: there is no such key"]),
    (["--bundle=run.bundle", "--bundle-key=README.md"], ["README.md", "openssl genpkey"]),
    (["--launcher", "slurm"], ["--launcher", "slurm", "mpirun"]),
    (["--hostfile", "README.md"], ["--hostfile", "fork takes none", "--launcher mpirun or deepspeed"]),
    (["--hostfile", "README.md", "--launcher", "torchrun"], ["torchrun takes none"]),
    (["--hostfile", "no/hosts", "--launcher", "mpirun"], ["--hostfile no/hosts", "there is no such file"]),
    (["--update-baselines", "--baselines", "/proc/none"], ["/proc/none", "mkdir"]),
    (["--update-baselines", "--baselines", "/proc/sys"], ["/proc/sys", "write"]),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence(tmp_path, arguments, words):
    refused(fork_suite(tmp_path, *CELLS, *arguments), *words)


def test_an_all_reduce_setting_that_ranks_do_not_get_is_reported(tmp_path):
    cell = "suites/test_latency.py::test_latency[opt-6.7b-fp32-cpu-single]"
    run = fork_suite(tmp_path, cell, "--collect-only", "-q", environment={"TORCH_LLM_ALLREDUCE": "1"})
    assert "ranks run without it" in run.output
    assert "ranks run without it" not in fork_suite(tmp_path, cell, "--collect-only", "-q").output


def matrix_copy(tmp_path, file, old, new):
    folder = tmp_path / "matrix"
    shutil.copytree(ROOT / "fixtures/matrix", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    return ["--matrix-data", str(folder)]


@pytest.mark.parametrize(("file", "old", "new", "words"), [
    ("models.toml", "gated = true", "gatde = true", ["models.toml", "llama-2-7b", "gatde", "gated"]),
    ("models.toml", "llama-2-7b.geometry]", "llama-2-7b.shape]", ["models.toml", "llama-2-7b", "geometry"]),
    ("models.toml", "[models.llama-2-7b]", "[models.llama-2-7b", ["models.toml", "line"]),
    ("platforms.toml", 'device_type = "cpu"', 'device_type = "npu"', ["platforms.toml", "'npu'", "known are xpu, cpu"]),
    ("platforms.toml", 'device_type = "cpu"', 'device_type = "npu"', ["see docs/extend.md#add-a-device-type"]),
])  # fmt: skip
def test_bad_matrix_data_is_one_sentence(tmp_path, file, old, new, words):
    run = fork_suite(tmp_path, *matrix_copy(tmp_path, file, old, new), *CELLS)
    refused(run, *words)


@pytest.mark.parametrize(("text", "words"), [
    ("schema = 1\n[[waivers]]\nid = 1", ["waivers.toml", "no. 1 has no suite"]),
    ("schema = ", ["waivers.toml", "malformed TOML"]),
    (
        'schema = 1\n[[waivers]]\nid = "x"\nsuite = "generation"\ncells = "no-such-*"\ncheck = "logits"\nat_most = 2\n'
        'reason = "r"\nevidence = "e"\nowner = "o"\nuntil = 2030-01-01',
        ["waiver x matches no cell"],
    ),
])  # fmt: skip
def test_bad_waivers_are_one_sentence(tmp_path, text, words):
    (tmp_path / "waivers.toml").write_text(text)
    refused(fork_suite(tmp_path, "--baselines", str(tmp_path), *CELLS), *words)
    refused(fork_suite(tmp_path, f"--baselines={tmp_path}", "--waivers"), *words)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The skeleton of a checkpoint: a config and a safetensors file whose header promises more than it holds."""
    root = tmp_path_factory.mktemp("models")
    folder = root / "opt-6.7b"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 9)
    return root


@pytest.mark.parametrize(("model", "words"), [
    ("opt-30b", ["has no folder for opt-30b", "--model-root"]),
    ("opt-6.7b", ["model.safetensors", "promises", "fetch it again"]),
])  # fmt: skip
def test_a_bad_checkpoint_is_one_sentence(tmp_path, checkpoint, model, words):
    cell = f"suites/test_generation.py::test_generation[{model}-fp32-cpu-single]"
    refused(fork_suite(tmp_path, "--model-root", str(checkpoint), cell), *words)


def test_remote_code_stays_off_without_the_pinned_revision(tmp_path, checkpoint):
    cell = "suites/test_generation.py::test_generation[baichuan2-13b-fp32-cpu-single]"
    run = fork_suite(tmp_path, "--model-root", str(checkpoint), cell)
    verdict, outcome, message, _ = run.tests["test_generation[baichuan2-13b-fp32-cpu-single]"]
    assert (verdict, outcome) == ("UNSUPPORTED", "skipped")
    assert "--allow-remote-code" in message


@pytest.mark.parametrize(("variable", "value"), [("beam", "four"), ("input", "0"), ("iter", "-1")])
def test_a_bad_grid_is_one_sentence(tmp_path, variable, value):
    cell = "suites/test_latency.py::test_latency[opt-6.7b-fp32-cpu-single]"
    refused(fork_suite(tmp_path, cell, environment={variable: value}), f"variable {variable}", "whole number")


@pytest.mark.parametrize("value", ["", "5", "xetla"])
def test_an_engine_that_would_be_ignored_is_refused(tmp_path, value):
    cell = "suites/test_quantization.py::test_int4_reload[llama-2-7b-int4-cpu-single]"
    refused(fork_suite(tmp_path, cell, environment={"IPEX_COMPUTE_ENG": value}), "IPEX_COMPUTE_ENG", "4 (XeTLA)")


@pytest.mark.parametrize("environment", [{"CI": ""}, {"CI": "true"}], ids=["terminal", "ci"])
def test_a_failure_prints_its_lines_once(tmp_path, environment):
    name = "test_generation[opt-6.7b-fp32-cpu-single]"
    run = fork_suite(
        tmp_path, f"suites/test_generation.py::{name}", "--worker-python=/bin/false", environment=environment
    )
    assert run.verdict(name) == "FAIL"
    assert run.output.count("reproduce: pytest") == 1
    assert "reproduce: pytest" in run.line(name, "reproduce")


def test_switched_off_benchmarks_are_no_pass(tmp_path):
    name = "test_latency[opt-6.7b-fp32-cpu-single]"
    run = fork_suite(tmp_path, f"suites/test_latency.py::{name}", "--benchmark-disable")
    assert run.tests[name][:2] == ("INCONCLUSIVE", "skipped")
    assert (run.status, "nothing failed: this run covered 1 of " in run.output) == (0, True)
    assert "1 not compared (1 INCONCLUSIVE)" in run.output


def test_a_home_that_cannot_be_written_is_one_sentence_before_anything_starts(tmp_path):
    cell = "suites/test_generation.py::test_generation[opt-6.7b-fp32-cpu-single]"
    home = {"HOME": "/proc/nohome", "XPU_LLM_CTS_CACHE": ""}
    run = fork_suite(tmp_path, cell, "-p", "suites.meta.harness.no_workers", environment=home)
    refused(run, "/proc/nohome/.cache/xpu-llm-cts", "cannot be written", "XPU_LLM_CTS_CACHE")
    assert run.status == 4


@needs_bf16
@pytest.mark.parametrize(("model", "ranks"), [("llama-2-7b", 2), ("llama-2-13b", 4)])
def test_ranks_without_room_in_shared_memory_are_no_fault_of_a_stack(tmp_path, model, ranks):
    found = (c.id for c in load_matrix().cells(["cpu"]) if (c.model.id, c.mode) == (model, "autotp"))
    name = f"test_tp_sharding[{next(found)}]"
    plugin = ["-p", "suites.meta.harness.small_shared_memory"]
    run = fork_suite(tmp_path, *plugin, f"suites/test_distributed.py::{name}")
    assert (run.verdict(name), run.property(name, "party")) == ("FAIL", "machine")
    assert f"/dev/shm has 64 MiB of room, and DeepSpeed's all-reduce among {ranks} ranks" in run.line(name, "usable")
