"""The software XPU and the fake IPEX: do they behave as a card and IPEX 2.8.10+xpu are known to?

Both are stand-ins. They compute on the host, so nothing here shows that a kernel of a card is right, how fast it is, or
that a driver, a compiler or a profiler works. They show what code must ask, move and wait for.
"""

import functools
import json
import os
import subprocess

import pytest

from fixtures.measure.processes import free_port
from suites.meta.harness.inner import ROOT, nodes, run_suite
from suites.meta.harness.software_xpu import MAX_1550, interpreter, queries

METEOR_LAKE, B580 = "Intel(R) Arc(TM) Graphics", "Intel(R) Arc(TM) B580 Graphics"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(*faults, **options)` is an interpreter with them; each is made once."""

    @functools.cache
    def once(*faults, **options):
        return interpreter(tmp_path_factory.mktemp("xpu") / "python", faults=faults, **options)

    return once


def asked(python, *words, ranks=1, **environment):
    """What a probe answers in a process, or a group of ranks, of `python`."""
    group = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-addr", "127.0.0.1"]
    launch = [*group, "--master-port", str(free_port())] if ranks > 1 else []
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "IPEX", "ZE_"))}
    variables |= {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **environment}
    command = [python, *launch, "-m", "suites.meta.harness.xpu_probes", *words]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=170, check=False, cwd=ROOT)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert lines, result.stderr[-2000:]
    return json.loads(lines[-1])


# -- the card ----


def test_a_llama_gives_the_hosts_tokens_with_either_cache_and_beams(made):
    assert all(asked(made(), "llama").values())


def test_devices_do_not_mix_and_numpy_wants_the_host(made):
    found = asked(made(), "strictness")
    for call in ("add", "linear", "indexed by a card"):
        assert "Expected all tensors to be on the same device" in found[call], call
    assert found["numpy"] == found["asarray"]
    assert "TypeError: can't convert xpu:0" in found["numpy"]
    assert found["scalar"] == found["back"] == found["indexed by the host"] == ""
    assert found["devices"] == ["xpu:0", True, 0, "xpu:0", "cpu"]
    assert "out of range" in found["second card"]


def test_parameters_keep_their_type_and_lie_on_the_card(made):
    assert asked(made(), "parameters") == {"devices": ["xpu:0"] * 3, "type": "Parameter"}


def test_memory_is_counted_against_the_cards(made):
    found = asked(made(cards=(B580,), memory=32 * MEBIBYTE), "memory")
    assert (found["before"], found["after"]) == (MEBIBYTE, 0)
    assert found["peak"] == MEBIBYTE
    assert "OutOfMemoryError: XPU out of memory. Tried to allocate 64.00 MiB" in found["oom"]
    assert found["total"] == 32 * MEBIBYTE
    assert "doesn't support querying" in found["info"]


def test_processes_share_a_cards_memory(made):
    found = asked(made(memory=8 * MEBIBYTE), "beside")
    assert "out of memory" in found["held"]
    assert found["gone"] == ""


def test_a_query_before_a_fork_spoils_the_child(made):
    found, python = asked(made(), "fork"), made()
    assert found["before"] == "False"
    assert found["after"].startswith("True RuntimeError: Cannot re-initialize XPU")
    spoilt = [query for query in queries(python) if query.what == "use after fork"]
    assert len(spoilt) == 1
    assert "xpu_probes.py" in spoilt[0].caller


def test_the_affinity_mask_leaves_the_cards_it_names(made):
    python = made(cards=(MAX_1550, B580))
    assert asked(python, "names") == {"names": [MAX_1550, B580]}
    assert asked(python, "names", ZE_AFFINITY_MASK="1") == {"names": [B580]}


def test_a_lost_device_stays_lost_for_the_process(made):
    found = asked(made("lost_device_after:5"), "lost")
    assert found["steps"] == 5
    assert "UR_RESULT_ERROR_DEVICE_LOST" in found["message"] == found["wait"]


def test_operations_are_pending_until_they_are_waited_for(made):
    assert asked(made(), "waiting") == {"submitted": 2, "after": 0}


def test_unknown_faults_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no_such"):
        interpreter(tmp_path / "python", faults=("no_such",))


# -- IPEX ----


def test_importing_ipex_asks_for_devices_and_reads_the_engine_once(made):
    python = made(cards=(MAX_1550,) * 2)
    assert asked(python, "engine", IPEX_COMPUTE_ENG="4") == {"before": 4, "after": 4}
    assert any(query.what == "is_available" and "intel_extension" in query.caller for query in queries(python))


def test_layers_of_every_family_get_ipexs_names_and_stocks_numbers(made):
    found = asked(made(), "families")
    assert found["Llama"][0] == ["IPEXLLAMABlock"]
    assert found["Glm"][0] == ["NewIPEXGlmBlock"]
    assert all(len(names) == 1 and off < 1e-4 for names, off in found.values())


@pytest.mark.parametrize(("variable", "length"), [("OFF", 1), ("1", 8)])
def test_the_prefill_gives_one_position_unless_it_is_for_scores(made, variable, length):
    assert asked(made(), "positions", LLM_ACC_TEST=variable)["shape"] == [1, length, 320]


def test_static_beam_search_needs_an_eos(made):
    found = asked(made(), "eos")
    assert "Could not infer dtype of NoneType" in found["none"]
    assert found["one"] == found["dynamic"] == ""


def test_the_first_cache_of_a_process_decides_for_the_later_ones(made):
    found = asked(made(), "caches")
    assert found["fresh"] < 1e-4 < 0.05 < found["after dynamic"]


def test_padding_is_attended_to(made):
    assert asked(made(), "padding")["padded"] > 0.05


def test_gptj_scores_one_row_at_a_time(made):
    found = asked(made(), "scores_of_gptj", LLM_ACC_TEST="1")
    assert found["one"] == ""
    assert "is invalid for input of size" in found["three"]


def test_a_card_without_matrix_engines_optimises_llama_and_not_gptj(made):
    found = asked(made(cards=(METEOR_LAKE,)), "optimiser")
    assert "IPEXLLAMABlock" in found["Llama"]["classes"]
    assert "GPTJBlock" in found["GPTJ"]["classes"]


def test_an_error_inside_the_optimiser_is_swallowed(made):
    found = asked(made("optimize_swallows"), "optimiser")["Llama"]
    assert "LlamaDecoderLayer" in found["classes"]
    assert "fallback to the origin model" in found["warnings"][-1]


def test_a_tensor_left_on_the_host_still_runs(made):
    found = asked(made("tensors_left_on_host"), "optimiser")["Llama"]
    assert found["devices"] == ["cpu", "xpu:0"]
    assert found["runs"] == ""


def test_without_diffusers_nothing_is_optimised(made):
    with pytest.raises(AssertionError, match="No module named 'diffusers'"):
        asked(made("no_diffusers"), "optimiser")


@pytest.mark.parametrize(("engine", "zeros"), [("0", ["torch.int8", [8]]), ("4", None)])
def test_int4_tables_move_to_new_linears(made, engine, zeros):
    found = asked(made(), "int4", IPEX_COMPUTE_ENG=engine)
    assert found["zeros"] == zeros
    assert found["emptied"]
    assert found["parameter"]
    assert (found["all"], found["owners"], found["plain"]) == (30, 14, ["lm_head.module"])
    assert found["moved"] < 0.05 < found["to stock"]


def test_another_engine_than_asked_for_runs_int4(made):
    assert asked(made("wrong_int4_engine"), "engine", IPEX_COMPUTE_ENG="4")["before"] == 2


def test_the_optimiser_shards_with_deepspeeds_engine_alone(made):
    two = made(cards=(MAX_1550,) * 2)
    engine = asked(two, "sharded", "engine", ranks=2)
    module = asked(two, "sharded", "module", ranks=2)
    assert (engine["tp_size"], engine["group"], engine["all_reduces"], engine["raised"]) == (2, True, 5, "")
    assert engine["off"] < 0.05
    assert engine["backend"] == "xccl"
    assert "device type cpu" in engine["host tensor"]
    assert (module["tp_size"], module["all_reduces"]) == (1, 0)
    assert "is invalid for input" in module["raised"]


def test_tp_size_1_is_taken_from_an_engine_where_planted(made):
    assert asked(made("tp_size_1", cards=(MAX_1550,) * 2), "sharded", "engine", ranks=2)["tp_size"] == 1


# -- a whole run ----


def test_a_whole_run_finds_the_platform_and_its_workers_reach_the_card(made, tmp_path):
    python = made("no_fork_guard")
    chosen = nodes("generation", ["llama-2-7b-fp16-max1550-single"])
    options = ["--platform", "max1550", "--weights", "miniature", f"--results={tmp_path}", "-p", "no:hypothesispytest"]
    subprocess.run([python, "-m", "pytest", *chosen, *options], cwd=ROOT, timeout=170, check=False, env=os.environ | {
        "PYTHONPATH": str(ROOT)
    })  # fmt: skip
    assert "llama-2-7b-fp16-max1550-single" in (tmp_path / "journal.jsonl").read_text()
    assert any(query.what == "init" and "nn/modules/module.py" in query.caller for query in queries(python))


def test_without_the_stand_in_this_machine_has_no_such_platform(tmp_path):
    chosen = nodes("generation", ["llama-2-7b-fp16-max1550-single"])
    run = run_suite(tmp_path, *chosen, "--platform", "max1550")
    assert run.status == 4
    assert "this machine has no max1550" in run.output
