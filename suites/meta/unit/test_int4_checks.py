"""The arithmetic and the lines of INT4 against planted numbers; no stack is loaded."""

import dataclasses
import json
import types

import numpy as np
import pytest

from fixtures.checks import int4, int4_native
from fixtures.checks.proof import quantised
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import MACHINE, OPTIMISED, SUITE
from fixtures.weights.inspection import CheckpointError, check_quantised
from fixtures.weights.int4_format import SCHEMES, in_bf16, read_checkpoint, round_to_nearest, write_gptq
from fixtures.weights.reading import Tensors

RNG = np.random.default_rng(11)
OUT, WIDTH, GROUP = 16, 256, 64
WEIGHT = RNG.normal(size=(OUT, WIDTH)).astype(np.float32)
BOUND = tolerances()["int4"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("group", [32, 64, -1])
def test_rounding_stays_within_half_a_step(scheme, group):
    found = round_to_nearest(WEIGHT, group, scheme)
    error = np.abs(found.weights() - WEIGHT) / np.abs(found.spread(found.scales))
    # Full range has one step less above than below, so that its largest weights of the other sign are clipped; in
    # sixteen bits scale, zero and each step are rounded, too.
    assert error.max() <= {"full range": 1.01, "float zero bf16": 0.6, "asymmetric fp16": 0.51}.get(scheme, 0.501)
    assert found.integers.min() >= 0
    assert found.integers.max() <= 15


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_is_reported_from_the_others(scheme):
    # Schemes that differ by the type of their steps alone part at 0.4 % of the integers.
    weight = np.random.default_rng(11).normal(size=(256, 256)).astype(np.float32)
    stored = {"a": round_to_nearest(weight, GROUP, scheme)}
    for selected in SCHEMES:
        verdict = int4.scheme_requested(int4.fitting_schemes(stored, {"a.weight": weight}, BOUND), selected).verdict
        assert verdict == ("PASS" if selected == scheme else "FAIL")


@pytest.fixture
def checkpoint(tmp_path):
    """A GPTQ-format checkpoint of one linear, and its Quantised."""
    from safetensors.numpy import save_file

    found = round_to_nearest(WEIGHT, GROUP, "asymmetric")
    save_file({f"a.{table}": array for table, array in write_gptq(found).items()}, tmp_path / "model.safetensors")
    declared = {"quant_method": "gptq", "bits": 4, "group_size": GROUP}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": declared}))
    return tmp_path, found


def test_the_gptq_format_comes_back(checkpoint):
    folder, found = checkpoint
    read = read_checkpoint(Tensors(folder), GROUP)["a"]
    assert (read.integers == found.integers).all()
    assert (read.zeros == found.zeros).all()
    assert np.abs(read.scales / found.scales - 1).max() <= BOUND["half_scale"]
    check_quantised(folder)


@pytest.mark.parametrize(("entries", "words"), [
    ({"group_size": 32}, "group_size = 32"),
    ({"bits": 8}, "bits = 8"),
    ({"quant_method": "gguf"}, "quant_method = 'gguf'"),
])  # fmt: skip
def test_a_configuration_that_does_not_fit_is_refused(checkpoint, entries, words):
    folder, _ = checkpoint
    declared = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, **entries}
    (folder / "config.json").write_text(json.dumps({"quantization_config": declared}))
    with pytest.raises(CheckpointError, match=words):
        check_quantised(folder)


def changed(found, **tables):
    return dataclasses.replace(found, **tables)


@pytest.mark.parametrize(("tables", "check"), [
    ({}, None),
    ({"scales": lambda f: np.concatenate([f.scales[:, :1] * 2, f.scales[:, 1:]], 1)}, "scales"),
    ({"integers": lambda f: (f.integers ^ (np.arange(WIDTH) == 3)).astype(np.int8)}, "integers"),
    ({"zeros": lambda f: f.zeros + 1}, "integers"),
    ({"scales": lambda f: f.scales * np.nan}, "scales"),
])  # fmt: skip
def test_tables_are_held_against_the_oracle(tables, check):
    honest = round_to_nearest(WEIGHT, GROUP, "symmetric")
    broken = changed(honest, **{name: make(honest) for name, make in tables.items()})
    lines = int4.against_oracle({"a": broken}, {"a.weight": WEIGHT}, "symmetric", BOUND)
    assert [line.check for line in lines if line.verdict == "FAIL"] == ([check] if check else [])


def test_a_difference_between_memory_and_disk_is_seen():
    honest = round_to_nearest(WEIGHT, GROUP, "symmetric")
    other = changed(honest, scales=honest.scales * np.float32(1 + 1e-7))
    assert int4.same_tables("bits", {"a": honest}, {"a": honest}, "").verdict == "PASS"
    assert int4.same_tables("bits", {"a": honest}, {"a": other}, "").verdict == "FAIL"
    assert int4.same_tables("bits", {"a": honest}, {}, "").verdict == "FAIL"


@pytest.mark.parametrize(("error", "verdict"), [(1e-8, "PASS"), (1e-2, "FAIL"), (np.nan, "FAIL")])
def test_a_kernel_is_held_against_its_own_integers(error, verdict):
    found = round_to_nearest(WEIGHT, GROUP, "symmetric")
    x = RNG.normal(size=(8, WIDTH)).astype(np.float32)
    outputs = {"a:x8": x, "a:y8": x.astype(np.float64) @ found.weights().T * (1 + error)}
    line = int4.kernel_line(int4.kernel_errors({"a": found}, outputs), BOUND["kernel"]["none"])
    assert line.verdict == verdict


def test_a_longer_sum_may_round_by_the_root_of_its_length():
    wide = round_to_nearest(RNG.normal(size=(4, 4096)).astype(np.float32), GROUP, "symmetric")
    x = RNG.normal(size=(8, 4096)).astype(np.float32)
    outputs = {"a:x8": x, "a:y8": x.astype(np.float64) @ wide.weights().T * (1 + 1.6e-6)}
    assert BOUND["width"] == 1024
    for width, verdict in ((np.inf, "FAIL"), (1024, "PASS"), (2048, "FAIL")):
        line = int4.kernel_line(int4.kernel_errors({"a": wide}, outputs, width), BOUND["kernel"]["none"])
        assert line.verdict == verdict


def test_quality_tells_the_scheme_from_the_arithmetic():
    parent = RNG.normal(size=(64, 50)) * 3
    targets = parent.argmax(-1)
    oracle = parent + RNG.normal(size=parent.shape)
    sound = int4.quality_lines(
        [(oracle, parent, oracle, targets)], {"perplexity": 9, "divergence": 9, "arithmetic": 1e-3}
    )
    assert [line.verdict for line in sound] == ["PASS"] * 3
    worse = oracle + RNG.normal(size=parent.shape)
    broken = int4.quality_lines(
        [(worse, parent, oracle, targets)], {"perplexity": 1, "divergence": 0.1, "arithmetic": 1e-3}
    )
    assert [line.verdict for line in broken] == ["FAIL"] * 3


def test_scales_of_fp16_are_no_fp32_ones():
    found = round_to_nearest(WEIGHT, GROUP, "symmetric")
    half = changed(found, scales=found.scales.astype(np.float16).astype(np.float32))
    assert int4.scale_type({"a": found}, "fp32").verdict == "PASS"
    assert int4.scale_type({"a": half}, "fp32").verdict == "FAIL"
    assert int4.scale_type({"a": half}, "fp16").verdict == "PASS"
    wider = int4.scale_type({"a": half}, "bf16")
    assert (wider.verdict, wider.value) == ("FAIL", 0)
    narrow = {"a": changed(found, scales=in_bf16(found.scales))}
    assert int4.scale_type(narrow, "bf16").verdict == "PASS"
    assert [int4.scale_type(narrow, wanted).value for wanted in ("fp16", "fp32")] == [2.0**-8, 2.0**-8]


def test_what_stays_in_full_precision_is_exact():
    proof = {"int4_linears": 14, "plain_linears": ["lm_head"]}
    seven, eight = "abcdefg", "abcdefgh"
    assert quantised(proof, 2, seven, ["lm_head"]).verdict == "PASS"
    assert quantised(proof, 2, eight, ["lm_head"]).verdict == "NOT_OPTIMISED"
    assert quantised({**proof, "plain_linears": []}, 2, seven, ["lm_head"]).verdict == "NOT_OPTIMISED"


def test_a_scale_that_is_no_number_is_not_hidden_by_the_next_linear():
    honest = round_to_nearest(WEIGHT, GROUP, "symmetric")
    stored = {"a": changed(honest, scales=honest.scales * np.nan), "b": honest}
    lines = int4.against_oracle(stored, {"a.weight": WEIGHT, "b.weight": WEIGHT}, "symmetric", BOUND)
    assert lines[1].verdict == "FAIL"


def arrays(name, found):
    tables = {"integers": found.integers, "scales": found.scales, "zeros": found.zeros}
    return {f"{name}:{t}": a for t, a in {**tables, "group": np.array([GROUP]), "bias": np.zeros(0)}.items()}


def way(**more):
    """One way of the native path as it is measured on a sound stack, changed by `more`."""
    found = round_to_nearest(WEIGHT, GROUP, "asymmetric")
    x = RNG.normal(size=(2, WIDTH)).astype(np.float32)
    sound = {
        "name": "rtn-none-64",
        "lowp": "none",
        "from_checkpoint": False,
        "expected": ["a.weight"],
        "parents": {"a.weight": WEIGHT},
        "biases": {},
        "stored": arrays("a", found),
        "outputs": {"a:x2": x, "a:y2": x.astype(np.float64) @ found.weights().T},
        "parts": {"a": ["a.weight"]},
        "error": None,
    }
    return types.SimpleNamespace(**{**sound, **more})


@pytest.mark.parametrize(("more", "verdict"), [
    ({}, "PASS"),
    ({"stored": {}, "outputs": {}, "parts": {}}, "NOT_OPTIMISED"),
    ({"parts": {"a": ["layer.?.a"]}}, "NOT_OPTIMISED"),
    ({"expected": ["a.weight", "b.weight"]}, "NOT_OPTIMISED"),
    ({"biases": {"a.bias": np.ones(OUT, np.float32)}}, "FAIL"),
    ({"parents": {"a.weight": WEIGHT * 2}}, "FAIL"),
])  # fmt: skip
def test_a_native_way_has_to_cover_the_model_and_mean_it(more, verdict):
    [line] = int4_native.check_native([way(**more)], tolerances())
    assert (line.check, line.verdict) == ("rtn-none-64", verdict)


def test_what_was_never_measured_is_no_pass():
    """And it is no stack that failed to: nothing raised."""
    nothing = types.SimpleNamespace(folder=None, error=None)
    saved = int4.check_saved(nothing, {}, tolerances())
    reloaded = int4.check_reloaded(types.SimpleNamespace(saved=nothing), {}, tolerances())
    for lines in (saved, reloaded, int4_native.check_native([], tolerances())):
        assert [(line.verdict, line.party) for line in lines] == [("FAIL", SUITE)]


def test_a_pickle_in_the_saved_folder_fails():
    assert int4.pickles({"model.safetensors": 1, "config.json": 1}).verdict == "PASS"
    assert int4.pickles({"model.safetensors": 1, "training_args.bin": 1}).verdict == "FAIL"


def test_not_a_number_is_never_the_same():
    logits = np.full((1, 2, 3), np.nan)
    assert int4.same("logits", logits, logits, "").verdict == "FAIL"
    assert int4.same("logits", np.ones(3), np.ones(3), "").verdict == "PASS"


LOGITS = np.ones((1, 2, 3), np.float32)
FILES = {"model.safetensors": [8, "a"], "config.json": [2, "b"], "quantize_config.json": [2, "c"]}
ARCH = types.SimpleNamespace(linears="ab", head="lm_head")
SOUND_PROOF = {"int4_linears": 2, "plain_linears": ["lm_head"]}


def saved(**more):
    """Flow (b) as it is measured on a sound stack with two linears in its only layer, changed by `more`."""
    found = arrays("a", round_to_nearest(WEIGHT, GROUP, "symmetric"))
    sound = {
        "cell": types.SimpleNamespace(model=types.SimpleNamespace(arch=ARCH)),
        "geometry": types.SimpleNamespace(layers=1),
        "folder": "somewhere",
        "stored": found,
        "stored_after": found,
        "before": LOGITS,
        "to_reload": LOGITS,
        "after": LOGITS,
        "before_proof": SOUND_PROOF,
        "proof": SOUND_PROOF,
        "engine": 4,
        "engine_reported": "",
        "scale_dtype": "fp32",
        "files": FILES,
        "ids": [1, 2],
        "error": None,
    }
    return types.SimpleNamespace(**{**sound, **more})


def reloaded(**more):
    """Flow (c) likewise."""
    sound = {
        "saved": saved(),
        "refused": "",
        "changed": [],
        "engine": 0,
        "engine_reported": "",
        "proof": SOUND_PROOF,
        "stored": saved().stored,
        "logits": LOGITS,
        "ids": [1, 2],
        "files": FILES,
        "other_files": [],
        "other_tensors": [],
        "lone_tensors": [],
        "error": None,
    }
    return types.SimpleNamespace(**{**sound, **more})


TABLE = {"saving_engine": "4"}


def failing(lines):
    return [line.check for line in lines if line.verdict != "PASS"]


@pytest.mark.parametrize(("more", "checks"), [
    ({}, []),
    ({"changed": ["config.json"]}, ["intact"]),
    ({"refused": "it is cut short"}, ["checkpoint"]),
    ({"proof": {**SOUND_PROOF, "int4_linears": 1}}, ["quantised"]),
    ({"engine": 4}, ["engine"]),
    ({"stored": {}}, ["bits"]),
    ({"logits": LOGITS + np.float32(1e-6)}, ["logits"]),
    ({"logits": None}, ["logits"]),
    ({"ids": [1]}, ["tokenizer"]),
    ({"ids": []}, ["tokenizer"]),
    ({"other_tensors": ["a.scales"]}, ["second_save"]),
    ({"lone_tensors": ["lm_head.weight"]}, ["second_tensors"]),
    ({"other_files": ["config.json"]}, ["second_files"]),
    ({"other_files": ["model.safetensors", "quantize_config.json"]}, ["quantize_config"]),
    ({"files": {}}, ["second_save", "second_tensors", "second_files", "quantize_config"]),
])  # fmt: skip
def test_every_check_of_a_reload_can_fail(more, checks):
    assert failing(int4.check_reloaded(reloaded(**more), TABLE, tolerances())) == checks


def test_what_comes_of_files_that_changed_on_disk_is_the_machines():
    found = reloaded(changed=["model.safetensors"], engine=4, logits=None)
    parties = {line.check: line.party for line in int4.check_reloaded(found, TABLE, tolerances()) if line.party}
    assert parties == {"intact": MACHINE, "logits": MACHINE, "engine": OPTIMISED}  # no file decides the engine


def on_disk(found, size=0):
    """The tensors of a checkpoint that holds `found`, and the bytes of its file plus `size`."""
    tables = {f"a.{name}": array for name, array in write_gptq(found).items()}
    tables["a.scales"] = np.ascontiguousarray(found.scales.T)

    class Held(dict):
        def bytes(self, name):
            return self[name].nbytes

    index = 4 * WIDTH  # the group index that the stack writes too
    total = sum(array.nbytes for array in tables.values()) + index + size
    return {"tensors": Held(tables), "files": {**FILES, "model.safetensors": [total, "a"]}}


@pytest.mark.parametrize(("more", "checks"), [
    ({}, []),
    ({"before_proof": {**SOUND_PROOF, "int4_linears": 1}}, ["quantised"]),
    ({"engine": 0}, ["engine"]),
    ({"proof": {**SOUND_PROOF, "plain_linears": []}}, ["still_int4"]),
    ({"stored_after": {}}, ["bits_after"]),
    ({"after": LOGITS + 1}, ["after_saving"]),
    ({"after": LOGITS * np.nan}, ["finite", "after_saving"]),
    (on_disk(round_to_nearest(WEIGHT, GROUP, "symmetric"), size=200), ["size"]),
    (on_disk(round_to_nearest(WEIGHT, GROUP, "full range")), ["bits"]),
])  # fmt: skip
def test_every_check_of_a_save_can_fail(more, checks):
    sound = on_disk(round_to_nearest(WEIGHT, GROUP, "symmetric"))
    assert failing(int4.check_saved(saved(**{**sound, **more}), TABLE, tolerances())) == checks


@pytest.mark.parametrize(("dtype", "factor", "verdict"), [
    ("float32", 1.0, "PASS"),
    ("float32", 1.0 + 1e-4, "FAIL"),  # a host repeats to the bit
    ("float16", 1.0 + 1e-4, "PASS"),
    ("float16", 1.0 + 1e-2, "FAIL"),
    ("float16", np.nan, "FAIL"),
    ("bfloat16", 1.0 + 1e-3, "PASS"),
    ("bfloat16", 1.0 + 1e-2, "FAIL"),
])  # fmt: skip
def test_a_reloaded_model_answers_as_the_saved_one(dtype, factor, verdict):
    found = reloaded(logits=LOGITS * factor, proof={**SOUND_PROOF, "dtype": dtype})
    [line] = [line for line in int4.check_reloaded(found, TABLE, tolerances()) if line.check == "logits"]
    assert line.verdict == verdict


@pytest.mark.parametrize("zeros", ["none", "one", "all"])
def test_a_table_of_zeros_may_be_absent_where_one_zero_stands_for_all(tmp_path, zeros):
    from safetensors.numpy import save_file

    tables = {"a.qweight": np.zeros((8, 64), np.int32), "a.scales": np.ones((1, 64), np.float16)}
    tables |= {
        "none": {},
        "one": {"a.qzeros": np.array([8], np.int8)},
        "all": {"a.qzeros": np.zeros((1, 8), np.int32)},
    }[zeros]
    save_file(tables, tmp_path / "model.safetensors")
    declared = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}}
    (tmp_path / "config.json").write_text(json.dumps(declared))
    check_quantised(tmp_path, shared_zero=True)
    if zeros != "all":
        with pytest.raises(CheckpointError, match="qzeros"):
            check_quantised(tmp_path)


@pytest.mark.parametrize(("dtype", "verdict"), [("float32", "FAIL"), ("float16", "FAIL"), ("bfloat16", "PASS")])
def test_what_arithmetic_may_add_to_four_bits_is_that_of_its_type(dtype, verdict):
    oracle = np.zeros((64, 50))
    mine = oracle + np.where(np.arange(50) % 2, 1, -1) * 0.055  # 1.5e-3 nats away
    windows = [(mine, oracle, oracle, oracle.argmax(-1))]
    measured = types.SimpleNamespace(**{
        **vars(saved()), "stored": {}, "quality": windows, "proof": {**SOUND_PROOF, "dtype": dtype},
    })  # fmt: skip
    lines = {line.check: line for line in int4.check_run(measured, TABLE, tolerances())}
    assert lines["arithmetic"].value == pytest.approx(1.5e-3, rel=0.1)
    assert lines["arithmetic"].verdict == verdict
