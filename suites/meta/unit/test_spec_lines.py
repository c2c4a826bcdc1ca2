"""The specification's printed lines, to the letter."""

from fixtures.report.spec_lines import spec_lines

# Next-token times are 1, 2, 3, 4 hundredths and 5, 6, 7, 8 hundredths of a second.
ROUNDS = [
    {"total": 0.6, "tokens": [0.4, 0.41, 0.43, 0.46, 0.5]},
    {"total": 0.9, "tokens": [0.5, 0.55, 0.61, 0.68, 0.76]},
]
PRINTED = """\
Iteration: 0, Time: 0.600000 sec
Iteration: 1, Time: 0.900000 sec

 ---------- Summary: ----------
Inference latency: 0.75000 sec.
First token average latency: 0.45000 sec.
Average 2... latency: 0.04500 sec.
P90 2... latency: 0.08000 sec.
P99 2... latency: 0.08000 sec."""


def test_the_lines_are_those_of_the_scripts_to_the_letter():
    assert "\n".join(spec_lines(ROUNDS, distributed=True)) == PRINTED


def test_one_device_prints_no_percentiles():
    assert "\n".join(spec_lines(ROUNDS)) == PRINTED.partition("\nP90")[0]


def test_percentiles_are_elements_and_not_interpolated():
    """Of 1 to 200 ms the elements number 180 and 198, counted from 0, are 181 and 199; interpolation gives less."""
    stamps = [1.0]
    for milliseconds in range(200, 0, -1):
        stamps.append(stamps[-1] + milliseconds / 1e3)
    lines = spec_lines([{"total": stamps[-1], "tokens": stamps}], distributed=True)
    assert lines[-2:] == ["P90 2... latency: 0.18100 sec.", "P99 2... latency: 0.19900 sec."]


def test_later_tokens_are_averaged_over_tokens_not_over_rounds():
    rounds = [{"total": 1.0, "tokens": [0.1, 0.2]}, {"total": 1.0, "tokens": [0.1, 0.4, 0.7, 1.0]}]
    assert spec_lines(rounds)[-1] == "Average 2... latency: 0.25000 sec."


def test_one_token_has_no_later_ones_and_no_lines_for_them():
    lines = spec_lines([{"total": 0.5, "tokens": [0.4]}] * 2, distributed=True)
    assert lines[-2:] == ["Inference latency: 0.50000 sec.", "First token average latency: 0.40000 sec."]


def test_no_token_stamps_leave_the_whole_call():
    assert spec_lines([{"total": 0.5, "tokens": []}])[-1] == "Inference latency: 0.50000 sec."
