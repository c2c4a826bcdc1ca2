"""The contract of generate() against planted answers: a sound stack keeps it, each fault fails the check it is for."""

import copy
import types

import numpy as np
import pytest

from fixtures.checks import generate
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import CHECKPOINT, OPTIMISED, SUITE
from fixtures.measure.generate import ends_of, first_calls, later_calls, padded_prompts
from fixtures.measure.parameters import parameters

TABLE = parameters()["generate"]
ROWS, NEW, LENGTH, VOCABULARY, PAD = TABLE["rows"], TABLE["new_tokens"], TABLE["length"], 64, 0
RNG = np.random.default_rng(5)
SCORES = RNG.normal(size=(ROWS, NEW, VOCABULARY))
BATCH = 1 + np.arange(ROWS * NEW).reshape(ROWS, NEW)  # no token comes twice
np.put_along_axis(SCORES, BATCH[..., None], 9.0, axis=-1)
SECOND = int(np.argsort(SCORES[0, 0])[-2])
PROMPTS = RNG.integers(1, VOCABULARY, (ROWS, LENGTH))
ENDS = ends_of(BATCH, SCORES, TABLE["ends"])
NOTHING = {"host": 0, "device": 0, "tensors": 0, "graphs": 0, "kernels": 0}


def returned(prompts, new, **more):
    return {"input": prompts, "sequences": np.concatenate((prompts, new), axis=1).astype(np.int64), **more}


def sound():
    """What a stack returns that keeps the contract."""
    found = {"batch": returned(PROMPTS, BATCH, scores=SCORES)}
    found |= {f"alone {row}": returned(PROMPTS[row : row + 1], BATCH[row : row + 1]) for row in range(ROWS)}
    for call, ends in ENDS.items():
        pad = ends[0] if call == "no_pad" else PAD
        rows = slice(1) if call == "negative_pad" else slice(ROWS)
        found[call] = returned(PROMPTS[rows], generate.until_end(BATCH[rows], ends, pad)[0])
    least = BATCH.copy()
    least[0, 0] = SECOND
    least[0, 5], least[0, 6:] = ENDS["min_new_tokens"][0], PAD
    for row in range(1, ROWS):
        least[row] = generate.until_end(BATCH[row : row + 1], ENDS["min_new_tokens"], PAD)[0][0]
    found["min_new_tokens"] = returned(PROMPTS, least)
    drawn = RNG.integers(1, VOCABULARY, (32, 16))
    prompts = np.tile(PROMPTS[:1], (32, 1))
    found["sampled"] = returned(prompts, drawn, places=(np.arange(512).reshape(32, 16) + 0.5) / 512)
    found["sampled_again"] = returned(prompts, drawn[:, :4])
    beams = RNG.integers(1, VOCABULARY, (9, 8))
    found["padded_beams"] = returned(np.tile(PROMPTS[:1], (9, 1)), beams)
    repeated = {"counted": "malloc", "threads": 1, **{name: dict(NOTHING) for name in ("calls", "first", "again")}}
    noise = types.SimpleNamespace(stock=SCORES + 3e-3, against=SCORES, fp32=SCORES, third=None)
    return types.SimpleNamespace(
        **dict(
            cell=types.SimpleNamespace(
                precision="bf16",
                platform=types.SimpleNamespace(device_type="cpu"),
                stock_classes=False,
                model=types.SimpleNamespace(family="llama2"),
            ),
            proofs=[],
            error=None,
            parameters=TABLE,
            pad=PAD,
            ends=ENDS,
            errors={},
            trained=False,
            repeated=repeated,
        ),
        **dict(groups={"logits": [0, 1, 2, 3], "static_cache": []}, reference_logits=noise),
        **dict(returned=copy.deepcopy(found), prompt_text="A clock", text="A clock struck"),
        **dict(beam_logprob=np.zeros(9), best_logprob=np.zeros(9)),
    )


def lines(measured):
    return {line.check: line for line in generate.check_generate(measured, tolerances())}


def red(measured):
    return {check for check, line in lines(measured).items() if line.verdict != "PASS"}


def new(measured, call):
    """The new tokens of a call, to be changed in place."""
    found = measured.returned[call]
    return found["sequences"][:, found["input"].shape[1] :]


def test_a_sound_stack_keeps_the_contract():
    found = lines(sound())
    assert not red(sound()), "\n".join(map(str, found.values()))
    assert len(found) == 17  # all but the proofs, which need a model


def change_shape(measured):
    measured.returned["alone 1"]["sequences"] = measured.returned["alone 1"]["sequences"][:, LENGTH:]


def change_prompt(measured):
    measured.returned["eos"]["sequences"][0, 3] += 1


def one_token_short(measured):
    measured.returned["batch"]["sequences"] = measured.returned["batch"]["sequences"][:, :-1]


def rows_reversed(measured):
    new(measured, "batch")[:] = new(measured, "batch")[::-1].copy()


def goes_on_after_its_end(measured):
    new(measured, "sampled_eos")[:] = BATCH


def pads_with_another(measured):
    new(measured, "no_pad")[0, -1] = PAD


def ends_too_early(measured):
    new(measured, "min_new_tokens")[0, 0] = ENDS["min_new_tokens"][0]


def another_choice_than_the_second(measured):
    new(measured, "min_new_tokens")[0, 0] = (SECOND + 1) % VOCABULARY


def not_padded_behind_a_late_end(measured):
    new(measured, "min_new_tokens")[0, -1] = 7


def seed_ignored(measured):
    new(measured, "sampled_again")[3, 2] += 1


def too_peaked(measured):
    measured.returned["sampled"]["places"] **= 1.5


def outside_top_k(measured):
    measured.returned["sampled"]["places"][0, 0] = 2.0


def beams_fall_short(measured):
    measured.beam_logprob[:5] = -3.0


def a_beam_short(measured):
    measured.returned["padded_beams"]["sequences"] = measured.returned["padded_beams"]["sequences"][:, :-1]
    measured.beam_logprob = None


def another_text(measured):
    measured.text = "a clock struck"


def a_tensor_kept(measured):
    measured.repeated["calls"]["tensors"] = TABLE["repeated"]["count"]


def bytes_kept(measured):
    measured.repeated["calls"]["host"] = 8192 * TABLE["repeated"]["count"]


def device_bytes_kept(measured):
    measured.repeated["again"]["device"] = 8192 * len(TABLE["repeated"]["lengths"])


def a_graph_by_length(measured):
    measured.repeated["first"]["graphs"] = 1


def a_kernel_each_time(measured):
    measured.repeated["again"]["kernels"] = 8


PLANTED = [
    (change_shape, {"shape", "new_tokens"}, "call alone 1 did not return the prompts"),
    (change_prompt, {"shape"}, "call eos did not return the prompts in front"),
    (
        one_token_short,
        {"new_tokens", "rows", "eos", "sampled_eos"},
        "call batch returned 7",
    ),
    (rows_reversed, {"rows", *ENDS}, "32 tokens are not those of the same prompt alone, in 4 of 4 rows"),
    (goes_on_after_its_end, {"sampled_eos"}, "6 tokens are not those up to the end"),
    (pads_with_another, {"no_pad"}, "1 tokens are not those up to the first of the ends"),
    (ends_too_early, {"min_new_tokens"}, "1 ends among the first 4 tokens"),
    (another_choice_than_the_second, {"min_new_tokens"}, "1 tokens are neither"),
    (not_padded_behind_a_late_end, {"min_new_tokens"}, "1 tokens are neither"),
    (seed_ignored, {"seed"}, "1 of 128 sampled tokens differ"),
    (too_peaked, {"distribution"}, "p = "),
    (outside_top_k, {"distribution"}, "1 of 512 sampled tokens lie outside"),
    (beams_fall_short, {"padded_beams"}, "5 of 9 prompts fall short"),
    (a_beam_short, {"padded_beams", "new_tokens"}, "call padded_beams returned 7"),
    (another_text, {"text"}, "not with 'A clock'"),
    (a_tensor_kept, {"held"}, "1.0 tensors stay alive: find who keeps them"),
    (bytes_kept, {"held"}, "8,192 bytes stay on the host"),
    (device_bytes_kept, {"seen_lengths"}, "8,192 bytes stay on the device"),
    (a_graph_by_length, {"first_lengths"}, "1 graphs in all are compiled: find what guards on the length"),
    (a_kernel_each_time, {"seen_lengths"}, "1.0 kernels are made"),
]


@pytest.mark.parametrize(("plant", "checks", "said"), PLANTED, ids=[plant.__name__ for plant, *_ in PLANTED])
def test_a_planted_fault_fails_the_check_that_it_is_for(plant, checks, said):
    measured = sound()
    plant(measured)
    assert red(measured) == checks
    assert any(said in line.measured for line in lines(measured).values()), lines(measured)
    party = SUITE if checks == {"text"} else OPTIMISED  # a made tokenizer is the suite's
    assert {lines(measured)[check].party for check in checks} == {party}


@pytest.mark.parametrize(("trained", "party"), [(True, CHECKPOINT), (False, SUITE)])
def test_a_text_that_comes_back_otherwise_is_of_whoever_brought_the_tokenizer(trained, party):
    measured = sound()
    measured.text, measured.trained = "a clock struck", trained
    assert lines(measured)["text"].party == party


@pytest.mark.parametrize("call", [*ENDS, "sampled", "padded_beams"])
def test_a_call_that_raises_fails_its_check_and_no_other(call):
    measured = sound()
    del measured.returned[call]
    measured.errors[call] = "IndexError: index out of range in self"
    check = "distribution" if call == "sampled" else call
    assert red(measured) == {check} | ({"new_tokens"} if call == "padded_beams" else set())
    assert "raised IndexError" in lines(measured)[check].measured


def test_a_tie_within_the_noise_is_no_failure():
    measured = sound()
    scores = measured.returned["batch"]["scores"]
    scores[1, 2, 5] = 9.0 + 1e-4  # as likely as the token that was chosen, to within the noise
    new(measured, "alone 1")[0, 2:] = 5
    assert not red(measured)
    assert "in 1 rows the first difference may be noise" in lines(measured)["rows"].measured


@pytest.mark.parametrize("stock", [SCORES + 50.0, np.full_like(SCORES, np.nan), SCORES], ids=["far", "nan", "same"])
def test_beams_of_a_broken_reference_are_no_measure(stock):
    measured = sound()
    measured.reference_logits.stock = stock
    line = lines(measured)["padded_beams"]
    assert line.verdict == "INCONCLUSIVE"
    assert "the reference is at fault" in line.measured


def test_all_rows_undecided_is_inconclusive():
    measured = sound()
    measured.reference_logits.stock = SCORES + 10.0
    new(measured, "batch")[:] = np.roll(BATCH, 1, axis=0)
    assert lines(measured)["rows"].verdict == "INCONCLUSIVE"


def test_a_worker_that_was_lost_before_the_calls_leaves_one_line():
    measured = sound()
    measured.returned, measured.repeated, measured.error = {}, None, RuntimeError("planted")
    assert set(lines(measured)) == {"runs"}


def test_a_worker_that_was_lost_among_the_calls_keeps_the_lines_of_those_before():
    """Where the reference answers first, there is noise to hold them against."""
    measured = sound()
    measured.repeated, measured.text, measured.best_logprob, measured.error = None, None, None, RuntimeError("planted")
    measured.returned = {
        call: found for call, found in measured.returned.items() if call.startswith(("batch", "alone"))
    }
    assert set(lines(measured)) == {"shape", "new_tokens", "rows", "runs"}
    assert red(measured) == {"runs"}


@pytest.mark.parametrize(("ends", "expected", "lengths"), [
    ([4], [[3, 4, 0, 0], [5, 6, 7, 8]], [2, 4]),
    ([4, 7], [[3, 4, 0], [5, 6, 7]], [2, 3]),
    ([9], [[3, 4, 4, 4], [5, 6, 7, 8]], [4, 4]),
])  # fmt: skip
def test_what_a_call_that_stops_has_to_return(ends, expected, lengths):
    found, at = generate.until_end(np.array([[3, 4, 4, 4], [5, 6, 7, 8]]), ends, 0)
    assert (found.tolist(), at) == (expected, lengths)


def test_ends_are_tokens_that_are_new_to_their_row():
    tokens = np.array([[5, 5, 5, 6], [1, 2, 3, 2], [7, 8, 7, 7]])
    scores = np.zeros((3, 4, 10))
    np.put_along_axis(scores, tokens[..., None], 1.0, axis=-1)
    scores[2, :, 8] = 3.0  # whose way to its second token is clearest
    ends = ends_of(tokens, scores, [1, 3, 3])
    assert (ends["several_eos"], ends["eos"], ends["negative_pad"]) == ([5, 3, 8], [8], [5])


def test_an_end_that_noise_may_have_missed_is_inconclusive():
    measured = sound()
    goes_on_after_its_end(measured)
    row = int(np.argwhere(np.isin(BATCH, ENDS["eos"]))[0, 0])
    new(measured, "sampled_eos")[row] = 5
    measured.returned["batch"]["scores"][row, 0, 5] = 9.0 + 1e-4
    assert lines(measured)["sampled_eos"].verdict == "INCONCLUSIVE"


def test_a_false_alarm_of_sampling_is_as_rare_as_stated():
    places = np.random.default_rng(1).random((2000, 512))
    alpha = 1e-2
    alarms = sum(generate.distribution(row, alpha).verdict == "FAIL" for row in places)
    assert 5 <= alarms <= 40  # 20 expected


def test_the_calls_are_those_of_the_parameters():
    ids = list(range(1, 2000))
    assert {len(prompt) for prompt in first_calls(ids, TABLE)["batch"]["prompts"]} == {LENGTH}
    later = later_calls(ids, TABLE, ENDS)
    assert later["sampled"]["options"]["temperature"] == TABLE["sampling"]["temperature"]
    assert (later["no_pad"]["pad"], later["negative_pad"]["pad"], "pad" in later["eos"]) == (None, -1, False)
    assert [len(prompt) for prompt in padded_prompts(ids, TABLE["beams"])] == [48, 20, 33] * 3
    assert (TABLE["beams"]["beams"], TABLE["beams"]["lengths"]) == (4, [48, 20, 33])


@pytest.mark.parametrize(("kind", "trained", "precision", "threads", "verdict"), [
    ("cpu", False, "bf16", 1, "FAIL"),
    ("cpu", False, "bf16", 2, "PASS"),  # a thread has buffers of its own
    ("cpu", False, "fp32", 2, "FAIL"),
    ("cpu", True, "fp32", 1, "PASS"),  # a large vocabulary
    ("cuda", False, "fp16", 1, "PASS"),  # libraries beside an accelerator
])  # fmt: skip
def test_how_much_a_new_length_may_keep(kind, trained, precision, threads, verdict):
    measured = sound()
    measured.cell.platform.device_type, measured.cell.precision, measured.trained = kind, precision, trained
    measured.repeated["threads"] = threads
    measured.repeated["first"]["host"] = 3 * 2**20 * len(TABLE["repeated"]["lengths"])
    assert lines(measured)["first_lengths"].verdict == verdict
