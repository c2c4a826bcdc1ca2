"""The roofline: counts against published sizes and by hand, the line on made-up times, rates on the host."""

import dataclasses
import math
import types

import numpy as np
import pytest

from fixtures.checks import roofline
from fixtures.checks.latency import statistics
from fixtures.checks.roofline import Roofline
from fixtures.matrix import linears, load_matrix

MODELS = {model.id: model for model in load_matrix().models}
BOUND = {"reached": 1.05}
TINY = types.SimpleNamespace(
    layers=2, hidden=8, intermediate=16, heads=4, kv_heads=2, head_dim=3, vocabulary=100, tied_embeddings=False,
    sliding_window=None,
)  # fmt: skip


def tiny(**fields):
    return types.SimpleNamespace(**{**vars(TINY), **fields})


# -- weights ----


@pytest.mark.parametrize(("model", "published"), [
    ("llama-2-7b", 6_738_415_616),
    ("mistral-7b", 7_241_732_096),
    ("phi-3-mini-4k", 3_821_079_552),
    ("gpt-j-6b", 6_050_882_784),
    ("qwen2-7b", 7_615_616_512),
    ("opt-6.7b", 6_658_473_984),
    ("bloom-7b1", 7_069_016_064),
])  # fmt: skip
def test_linears_and_tables_make_up_the_published_number_of_parameters(model, published):
    geometry, arch = MODELS[model].geometry, MODELS[model].arch
    tables = (1 if geometry.tied_embeddings else 2) * geometry.vocabulary * geometry.hidden
    tables += geometry.positions * geometry.hidden if geometry.position == "learned" else 0
    counted = linears.linear_parameters(geometry, arch.linears) + tables
    assert 0.999 * published < counted < published  # norms and biases are left out


def test_every_linear_of_the_matrix_has_a_shape():
    for model in MODELS.values():
        assert linears.linear_parameters(model.geometry, model.arch.linears) > 0


def test_an_unknown_linear_is_one_sentence():
    with pytest.raises(ValueError, match=r"the linear 'router' is not known; add it to SHAPES of fixtures\.matrix"):
        linears.linear_parameters(TINY, ["q_proj", "router"])


def test_of_an_input_table_only_the_rows_of_the_tokens_move():
    assert roofline.weight_bytes(TINY, 5000, 2) == 5000 + (100 + 1) * 8 * 2
    assert roofline.weight_bytes(TINY, 5000, 2, tokens=4) == 5000 + (100 + 4) * 8 * 2


def test_a_tied_table_moves_once_as_the_output_projection():
    assert roofline.weight_bytes(tiny(tied_embeddings=True), 5000, 2, tokens=4) == 5000 + 100 * 8 * 2


def test_a_step_moves_what_the_model_holds_but_for_the_input_table():
    geometry, arch = MODELS["llama-2-7b"].geometry, MODELS["llama-2-7b"].arch
    moved = roofline.weight_bytes(geometry, linears.linear_parameters(geometry, arch.linears) * 2, 2)
    assert 2 * 6_738_415_616 - moved == pytest.approx(2 * 32000 * 4096, rel=0.01)


# -- keys and values ----


def test_keys_and_values_of_every_layer_and_kv_head_are_read():
    assert (
        roofline.kv_bytes(TINY, 10, 3, 2) == 2 * 2 * 2 * 3 * 10 * 3 * 2
    )  # k and v, layers, heads, dim, tokens, batch, B


def test_beams_multiply_the_batch():
    assert roofline.kv_bytes(TINY, 10, 3, 2, beams=4) == roofline.kv_bytes(TINY, 10, 12, 2)


def test_beams_share_the_keys_and_values_of_their_prompt():
    token = roofline.kv_bytes(TINY, 1, 1, 2)
    assert roofline.kv_bytes(TINY, 10, 3, 2, beams=4, prompt=7) == 3 * (7 + 4 * 3) * token
    assert roofline.kv_bytes(TINY, 10, 3, 2, beams=1, prompt=7) == 3 * 10 * token


@pytest.mark.parametrize(("position", "prompt", "tokens"), [
    (4, 0, 4 * 2),  # shorter than the window
    (10, 0, 6 * 2),
    (10, 7, 3 + 3 * 2),  # of positions 4 to 9 the prompt has 4, 5 and 6
    (10, 3, 6 * 2),  # the prompt is out of sight
    (10, 10, 6),
])  # fmt: skip
def test_a_window_reads_no_further_back(position, prompt, tokens):
    seen = roofline.kv_bytes(tiny(sliding_window=6), position, 1, 2, beams=2, prompt=prompt)
    assert seen == tokens * roofline.kv_bytes(TINY, 1, 1, 2)


def test_llama_2_7b_keeps_half_a_mebibyte_a_token():
    assert roofline.kv_bytes(MODELS["llama-2-7b"].geometry, 1, 1, 2) == 2**19


# -- rooflines ----


def test_a_decode_step_takes_its_bytes_over_the_bandwidth():
    assert roofline.Roofline(6e9 + 2e9, 4e9, 1.0, 1.0).decode == 2.0


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_without_a_rate_there_is_no_roofline(rate):
    assert math.isnan(roofline.Roofline(1e9, rate, 1e9, 1.0).decode)
    assert math.isnan(roofline.Roofline(1e9, 1.0, 1e9, rate).prefill)


def test_a_prefill_takes_its_linears_its_last_logits_and_half_of_all_pairs():
    operations = 2 * 1000 * 6 + 2 * 100 * 8 + 4 * 2 * 4 * 3 * 6**2 / 2
    assert roofline.prefill_operations(TINY, 1000, 6) == operations
    thrice = roofline.prefill_operations(TINY, 1000, 6, batch=3)
    assert roofline.Roofline(1.0, 1.0, thrice, 100.0).prefill == pytest.approx(3 * operations / 100)


def test_the_pairs_of_a_prefill_are_no_more_than_a_causal_mask_with_a_window_has():
    tokens, window = 50, 12
    distance = np.subtract.outer(np.arange(tokens), np.arange(tokens))
    for limit in (None, window, tokens + 5):
        allowed = ((distance >= 0) & (distance < (limit or tokens))).sum()
        geometry = tiny(sliding_window=limit, vocabulary=0)
        pairs = roofline.prefill_operations(geometry, 0, tokens) / (4 * 2 * 4 * 3)
        assert allowed - tokens <= pairs <= allowed


# -- the line ----

FLOORS = Roofline(moved=15 * 2**20, bandwidth=12.5 * 2**30, operations=2e9, flops=100e9)  # 1.172 ms and 20 ms


def reported(step, first, found=FLOORS):
    """The line for steps and a first token of that many seconds, by the statistics of a real measurement."""
    stamps = [first, *(first + step * number for number in range(1, 5))] if step else [first]
    metrics = statistics([{"total": stamps[-1], "tokens": stamps}] * 2, 1, 0)
    (line,) = roofline.roofline_lines(metrics, found, BOUND)
    return line


def test_a_model_above_its_rooflines_is_reported_how_close_it_comes():
    line = reported(0.003, 0.04)
    assert (line.verdict, line.allowed) == ("PASS", "")  # it informs, and demands nothing
    assert line.measured == (
        "decode 3 ms a token, roofline 1.17 ms (15 MiB at 12.5 GiB/s), 39.1 % reached; "
        "prefill 40 ms, roofline 20 ms (2 GFLOP at 100 GFLOP/s), 50 % reached"
    )


@pytest.mark.parametrize(("step", "first", "words"), [
    (0.0011, 0.04, "107 % reached, faster than the bytes can move: the bandwidth or the byte count is wrong;"),
    (0.003, 0.019, "105 % reached, faster than the arithmetic can be done: the rate or the operation count is wrong"),
])  # fmt: skip
def test_a_model_faster_than_its_roofline_shows_that_the_roofline_is_wrong(step, first, words):
    line = reported(step, first)
    assert line.verdict == "INCONCLUSIVE"
    assert words in line.measured
    assert line.allowed == "<= 105% of every roofline"


def test_a_hair_above_the_roofline_is_noise():
    assert reported(0.00113, 0.0195).verdict == "PASS"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Roofline)])
@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_roofline_that_was_not_measured_is_no_pass(field, value):
    line = reported(0.003, 0.04, dataclasses.replace(FLOORS, **{field: value}))
    assert line.verdict == "INCONCLUSIVE"
    assert "no roofline" in line.measured


def test_one_new_token_has_a_prefill_and_no_decode_step():
    line = reported(None, 0.04)
    assert line.verdict == "PASS"
    assert line.measured.startswith("prefill 40 ms")


def test_counting_the_weights_twice_is_seen_on_a_model_at_its_roofline():
    twice = dataclasses.replace(FLOORS, moved=2 * FLOORS.moved)
    assert reported(0.00125, 0.04).verdict == "PASS"
    assert reported(0.00125, 0.04, twice).verdict == "INCONCLUSIVE"


def test_sizes_are_reported_in_their_unit():
    line = reported(20.0, 5.0, Roofline(3e13, 3.35e12, 2.5e15, 9.9e14))
    assert "decode 20 s a token, roofline 8.96 s (27940 GiB at 3120 GiB/s), 44.8 % reached" in line.measured
    assert "roofline 2.53 s (2500 TFLOP at 990 TFLOP/s)" in line.measured


# -- rates, on the host ----
# These prove the plumbing: the formula over a known clock, the size of the buffer, that the device is waited for, and
# that a real measurement is a positive finite number. What the rates are worth shows only beside a model.


class Device:
    """An adapter of the host with a clock of its own, in seconds: calls take what `pauses` say, waiting takes 0.25."""

    def __init__(self, device, pauses=(), later=0.0):
        self.device, self.pauses, self.later = device, list(pauses), later
        self.now, self.calls, self.done = 0.0, 0, []

    def __call__(self):
        self.now += self.pauses.pop(0) if self.pauses else self.later
        self.calls += 1
        self.done.append("call")

    def synchronize(self):
        self.now += 0.25
        self.done.append("wait")

    def perf_counter(self):
        self.done.append("clock")
        return self.now


@pytest.fixture(scope="module")
def host():
    torch = pytest.importorskip("torch", reason="rates are measured by torch")
    from fixtures.engine import throughput
    from fixtures.engine.adapters import adapter_for

    return types.SimpleNamespace(torch=torch, throughput=throughput, adapter=adapter_for("cpu"))


def test_rates_of_the_host_are_positive_and_finite(host):
    rates = [
        host.throughput.bandwidth(host.adapter, 2**20, 0.02),
        host.throughput.matmul_rate(host.adapter, host.torch.float32, 64, 0.02),
        host.throughput.matmul_rate(host.adapter, host.torch.bfloat16, 64, 0.02),
    ]
    assert np.isfinite(rates).all()
    assert min(rates) > 0


@pytest.mark.parametrize(("selected", "held"), [(1, 4096), (10 * 4096 + 5, 10 * 4096), (2**40, 2**21)])
def test_a_rate_is_the_work_of_one_call_over_its_seconds(host, monkeypatch, selected, held):
    monkeypatch.setattr(host.throughput, "LARGEST", 2**21)
    monkeypatch.setattr(host.throughput, "_least_seconds", lambda adapter, call, seconds: 0.5)
    assert host.throughput.bandwidth(host.adapter, selected) == held / 0.5
    assert host.throughput.matmul_rate(host.adapter, host.torch.float32, 10) == 2 * 10**3 / 0.5


def test_the_best_of_the_readings_counts(host, monkeypatch):
    taken = iter([0.5, 0.25, 2.0])
    monkeypatch.setattr(host.throughput, "_least_seconds", lambda adapter, call, seconds: next(taken))
    assert host.throughput.bandwidth(host.adapter, 4096) == 4096 / 0.25
    assert next(taken, None) is None


def device(host, monkeypatch, *pauses, later=0.0):
    """A Device whose clock the measurement reads."""
    made = Device(host.adapter.device, pauses, later)
    monkeypatch.setattr(host.throughput, "time", made)
    return made


def test_the_device_is_waited_for_before_the_clock_starts_and_before_it_is_read(host, monkeypatch):
    made = device(host, monkeypatch, later=1.0)
    assert host.throughput._seconds(made, made, 2) == 2.25
    assert made.done == ["wait", "clock", "call", "call", "wait", "clock"]


def test_a_slow_start_or_neighbour_does_not_count(host, monkeypatch):
    made = device(host, monkeypatch, 50.0, 3.0, 3.0, 1.0, 9.0)
    assert host.throughput._least_seconds(made, made, 0.0) == 1.25


def test_repeats_go_on_for_the_seconds_asked_for(host, monkeypatch):
    made = device(host, monkeypatch, later=0.75)
    host.throughput._least_seconds(made, made, 20.0)
    assert made.calls == 2 + 20  # the first ones start up and say how long one takes


def test_a_short_call_is_timed_many_at_once_so_that_waiting_hardly_counts(host, monkeypatch):
    made = device(host, monkeypatch, later=1e-5)
    monkeypatch.setattr(made, "synchronize", lambda: None)
    assert host.throughput._least_seconds(made, made, 0.0) == pytest.approx(1e-5)
    assert made.calls == pytest.approx(100 * host.throughput.LEAST, abs=5)


def test_nothing_to_read_is_one_sentence(host):
    with pytest.raises(ValueError, match="a working set of 0 bytes cannot be read"):
        host.throughput.bandwidth(host.adapter, 0)
    with pytest.raises(ValueError, match="matrices of size 0 have no product"):
        host.throughput.matmul_rate(host.adapter, host.torch.float32, 0)
