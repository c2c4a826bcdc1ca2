"""The releases of transformers that the suite runs on: what differs between them, and how they are installed."""

import json
import os
import re
import subprocess
import tomllib
import types

import pytest

from fixtures import transformers_api
from fixtures.checks.verdicts import Line, with_origin
from fixtures.compare.against import measure_against
from fixtures.matrix import load_matrix
from fixtures.matrix.config import plain_entries
from fixtures.measure.int4 import same_configuration
from fixtures.measure.settings import Unsupported
from fixtures.plugin.collection import why_unsupported
from fixtures.plugin.options import interpreter
from fixtures.results import Baselines, Value, numerics_key
from fixtures.results.accepted import AcceptedValues
from fixtures.system.versions import generation_of, misfit, untested
from fixtures.transformers_api import generation_4, generation_5
from suites.meta.harness.inner import ROOT

SPECIFIED, NEWEST = "4.48.3", "4.51.3"
STOCK = ("5.17.0", "5.24.0")
IPEX = {"intel-extension-for-pytorch": "2.8.0"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
LLAMA_3 = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}


@pytest.fixture(params=[SPECIFIED, NEWEST, *STOCK])
def release(request, monkeypatch):
    monkeypatch.setattr(generation_4, "_HAS", generation_4.features(request.param))
    return request.param


@pytest.fixture
def api(release):
    """The module for a release that was tried."""
    return {"generation_4": generation_4, "generation_5": generation_5}[generation_of(release)]


def test_generate_gets_only_the_options_that_the_release_knows(api, release):
    more = {} if release == SPECIFIED else {"disable_compile": True}
    assert api.static_cache() == {"cache_implementation": "static"} | more


def test_the_type_of_parameters_is_given_by_the_name_of_the_release(api, release):
    assert api.in_type("bf16") == {"dtype" if release in STOCK else "torch_dtype": "bf16"}


def test_the_generations_have_the_same_functions():
    def functions(module):
        return {name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__}

    assert functions(generation_5) == functions(generation_4) - {"features", "has"}
    assert all(f"\n{name}(" in transformers_api.__doc__ for name in functions(generation_5))


def test_the_projection_of_earlier_positions_is_spared_by_the_name_of_the_release(api, release):
    class Old:
        def forward(self, input_ids, num_logits_to_keep=0): ...

    class New:
        def forward(self, input_ids, logits_to_keep=0): ...

    class Neither:
        def forward(self, input_ids): ...

    fitting, name = (Old, "num_logits_to_keep") if release == SPECIFIED else (New, "logits_to_keep")
    assert api.last_logits(fitting(), 3) == {name: 3}
    assert api.last_logits(Neither(), 3) == {}


def test_a_release_candidate_is_older_than_its_release():
    assert not generation_4.features("4.49.0rc1")["logits_to_keep"]


def test_no_other_module_of_the_engine_knows_what_differs():
    sources = [path for path in ROOT.glob("fixtures/**/*.py") if path.parent.name != "transformers_api"]
    known = [path.name for path in sources for feature in generation_4.SINCE if feature in path.read_text()]
    assert known == []


@pytest.mark.parametrize("release", ["4.47.1", "4.52.0", "4.57.6", "5.0.0", "5.16.0", "6.0.0"])
def test_a_release_of_no_generation_is_refused(release):
    sentence = misfit({"transformers": release})
    assert sentence.startswith(f"the suite does not know transformers {release}; install one of those")
    assert sentence.endswith("4.48.3, 4.51.3, 5.17.0 and 5.24.0")


@pytest.mark.parametrize("release", ["4.50.0", "5.18.1", "5.25.0", "5.24.0rc1"])
def test_a_release_that_nobody_tried_is_marked(release):
    assert misfit({"transformers": release}) is None
    assert untested({"transformers": release}).startswith(f"transformers {release} is untested: ")


def test_a_release_that_was_tried_is_not_marked(release):
    assert (misfit({"transformers": release}), untested({"transformers": release}), untested({})) == (None,) * 3


@pytest.mark.parametrize(("written", "meant"), [
    ({"rope_theta": 1e4, "rope_scaling": None}, {"rope_theta": 1e4, "rope_scaling": None}),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, {"rope_theta": 5e5, "rope_scaling": None}),
    ({"rope_parameters": {**LLAMA_3, "rope_theta": 5e5}}, {"rope_theta": 5e5, "rope_scaling": LLAMA_3}),
    (
        {
            "rope_parameters": {"rope_type": "longrope", "partial_rotary_factor": 0.5, **LLAMA_3},
            "original_max_position_embeddings": 8192,
        },
        {
            "partial_rotary_factor": 0.5, "original_max_position_embeddings": 8192,
            "rope_scaling": {"rope_type": "llama3", "factor": 32.0},
        },
    ),
    ({"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}),
    ({"layer_types": ["full_attention"] * 2}, {}),
    ({"layer_types": ["sliding_attention"]}, {"layer_types": ["sliding_attention"]}),
    ({"rope_parameters": {"full_attention": {}}}, {"rope_parameters": {"full_attention": {}}}),
])  # fmt: skip
def test_entries_of_transformers_5_have_the_names_of_the_matrix(written, meant):
    assert plain_entries(written) == meant


def test_a_model_too_new_for_the_release_is_unsupported_with_the_reason():
    cells = {cell.id: cell for cell in load_matrix().cells(["cpu"])}
    reason = why_unsupported(cells["qwen3-4b-fp32-cpu-single"], SPECIFIED)
    assert reason == "qwen3-4b needs transformers 4.51.0; 4.48.3 is installed"
    assert why_unsupported(cells["llama-2-7b-fp32-cpu-single"], SPECIFIED) is None
    assert why_unsupported(cells["qwen3-4b-fp32-cpu-single"], NEWEST) is None


def test_a_class_that_a_release_does_not_run_is_unsupported_with_the_reason():
    [cell] = [cell for cell in load_matrix().cells(["cpu"]) if cell.id == "baichuan2-13b-fp32-cpu-single"]
    reason = why_unsupported(cell, "5.24.0")
    words = "baichuan2-13b needs transformers before 5 (its own code takes no cache of transformers 5)"
    assert reason == f"{words}; 5.24.0 is installed"
    assert why_unsupported(cell, NEWEST) is None


def test_a_model_too_new_for_the_other_stack_is_unsupported_before_anything_runs():
    [cell] = [cell for cell in load_matrix().cells(["cpu"]) if cell.id == "qwen3-4b-fp32-cpu-single"]
    other = types.SimpleNamespace(python="/there/python", versions={"transformers": SPECIFIED})
    with pytest.raises(Unsupported, match=r"qwen3-4b needs transformers 4\.51\.0; 4\.48\.3 is installed at /there/pyt"):
        measure_against(None, other, cell, 4, None, None)


def test_a_relative_interpreter_is_followed_from_any_folder():
    assert interpreter(".venv-4.48/bin/python") == os.path.abspath(".venv-4.48/bin/python")
    assert interpreter("python3") == "python3"


@pytest.mark.parametrize("release", ["4.52.0", "4.52.4", "4.57.6", "5.24.0"])
def test_a_release_that_ipex_does_not_work_with_is_one_sentence(release):
    sentence = misfit(IPEX | {"transformers": release})
    assert f"intel-extension-for-pytorch 2.8.0 does not work with transformers {release}" in sentence
    assert sentence.endswith("; install transformers==4.51.3")


@pytest.mark.parametrize(
    "found",
    [
        IPEX | {"transformers": SPECIFIED},
        IPEX | {"transformers": NEWEST},
        {"intel-extension-for-pytorch": "2.8.10+xpu", "transformers": NEWEST},
        {"transformers": "5.24.0"},  # of a stack without IPEX
        {"intel-extension-for-pytorch": "2.9.0", "transformers": "5.24.0"},  # of which nothing is known
        {},
    ],
)
def test_packages_that_work_together_are_no_misfit(found):
    assert misfit(found) is None


def test_a_comparison_with_values_of_another_release_names_both(tmp_path):
    [cell] = [cell for cell in load_matrix().cells(["cpu"]) if cell.id == "llama-2-7b-fp32-cpu-single"]
    versions = IPEX | {"transformers": NEWEST}
    store = Baselines(tmp_path)
    store.record("generation", "cpu", numerics_key("cpu"), cell.id, {"noise_ratio": Value(1.0, 0.1, "stock errors")}, 6)
    store.commit({"versions": versions})

    def origin(**here):
        return AcceptedValues(store, False, {"cpu": "cpu"}, versions=versions | here).find("generation", cell).origin

    assert origin() == ""
    assert origin(transformers=SPECIFIED) == "accepted with transformers 4.51.3, 4.48.3 here"
    [line] = with_origin([Line("regression", "PASS", "1.0, accepted 1.0", "<= 1.5")], origin(transformers=SPECIFIED))
    assert line.measured == "1.0, accepted 1.0; accepted with transformers 4.51.3, 4.48.3 here"


@pytest.mark.parametrize(("more", "same"), [({}, True), ({"torch_dtype": "float16"}, False)])
def test_a_configuration_may_name_the_folder_that_it_was_read_from(tmp_path, more, same):
    for name, entries in (("first", {}), ("second", more)):
        (tmp_path / name).mkdir()
        config = {"_name_or_path": name, "vocab_size": 512, **entries}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    assert same_configuration(tmp_path / "first", tmp_path / "second") is same


def locked(file):
    """{distribution: its entry, hashes included} of a lock."""
    found = re.split(r"^(?=[a-z])", (ROOT / file).read_text(), flags=re.MULTILINE)[1:]
    return {entry.partition("==")[0]: entry.split("    # via")[0].rstrip() for entry in found}


def test_the_two_locks_differ_in_transformers_alone():
    newest, specified = locked("requirements.lock"), locked("requirements-4.48.lock")
    assert newest.keys() == specified.keys()
    assert {name for name in newest if newest[name] != specified[name]} == {"transformers"}
    for lock, release, extra in ((newest, NEWEST, "host"), (specified, SPECIFIED, "host-4-48")):
        assert lock["transformers"].startswith(f"transformers=={release} ")
        assert f"transformers=={release}" in EXTRAS[extra]
        assert all("--hash=sha256:" in entry for entry in lock.values())


def test_the_second_environment_installs_the_difference_by_its_hashes():
    command = ["make", "-n", "-o", ".venv/.installed", "-W", "requirements-4.48.lock", ".venv-4.48"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--require-hashes" in done.stdout
    # What make would run there, on the real locks.
    words = next(line for line in done.stdout.splitlines() if line.startswith("awk ")).rpartition(" > ")[0]
    other = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^[a-z].*==\S+", other, re.MULTILINE) == [f"transformers=={SPECIFIED}"]
