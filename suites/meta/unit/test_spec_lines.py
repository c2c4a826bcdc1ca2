"""The specification's printed lines: to the letter, read back by a scraper, and unread once a format changes."""

import pytest

from fixtures.report.spec_lines import parse, spec_lines

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
READ = {"inference": 0.75, "first": 0.45, "next": 0.045, "p90": 0.08, "p99": 0.08}


def test_the_lines_are_those_of_the_scripts_to_the_letter():
    assert "\n".join(spec_lines(ROUNDS, distributed=True)) == PRINTED


def test_one_device_prints_no_percentiles():
    assert "\n".join(spec_lines(ROUNDS)) == PRINTED.partition("\nP90")[0]


def test_a_scraper_reads_what_was_printed():
    assert parse("\n".join(spec_lines(ROUNDS, distributed=True))) == pytest.approx(READ)
    assert parse("\n".join(spec_lines(ROUNDS))).keys() == {"inference", "first", "next"}


def test_percentiles_are_elements_and_not_interpolated():
    """Of 1 to 200 ms the elements number 180 and 198, counted from 0, are 181 and 199; interpolation gives less."""
    stamps = [1.0]
    for milliseconds in range(200, 0, -1):
        stamps.append(stamps[-1] + milliseconds / 1e3)
    seen = parse("\n".join(spec_lines([{"total": stamps[-1], "tokens": stamps}], distributed=True)))
    assert (seen["p90"], seen["p99"]) == (0.181, 0.199)


def test_later_tokens_are_averaged_over_tokens_not_over_rounds():
    rounds = [{"total": 1.0, "tokens": [0.1, 0.2]}, {"total": 1.0, "tokens": [0.1, 0.4, 0.7, 1.0]}]
    assert parse("\n".join(spec_lines(rounds)))["next"] == 0.25


def test_rounds_that_warm_up_are_listed_and_not_summed_up():
    lines = spec_lines([{"total": 9.0, "tokens": [8.0, 9.0]}, *ROUNDS], distributed=True, warmup=1)
    assert lines[:3] == [
        "Iteration: 0, Time: 9.000000 sec",
        "Iteration: 1, Time: 0.600000 sec",
        "Iteration: 2, Time: 0.900000 sec",
    ]
    assert parse("\n".join(lines)) == pytest.approx(READ)


def test_one_token_has_no_later_ones_and_no_lines_for_them():
    text = "\n".join(spec_lines([{"total": 0.5, "tokens": [0.4]}] * 2, distributed=True))
    assert parse(text) == {"inference": 0.5, "first": 0.4}
    assert "nan" not in text
    assert "2..." not in text


def test_no_token_stamps_leave_the_whole_call():
    assert parse("\n".join(spec_lines([{"total": 0.5, "tokens": []}]))) == {"inference": 0.5}


@pytest.mark.parametrize(("rounds", "warmup"), [([], 0), (ROUNDS, 2)])
def test_nothing_to_sum_up_is_one_sentence(rounds, warmup):
    with pytest.raises(ValueError, match=f"{len(rounds)} rounds of which {warmup} warm up leave none to sum up"):
        spec_lines(rounds, warmup=warmup)


# -- the scraper ----


@pytest.mark.parametrize(("before", "after", "lost"), [
    ("---------- Summary", "----- Summary", set(READ)),
    ("Inference latency:", "Inference time:", {"inference"}),
    ("First token average", "First token mean", {"first"}),
    ("Average 2...", "Average 2+", {"next"}),
    ("P90 2...", "P95 2...", {"p90"}),
    ("P99 2...", "P99 2..", {"p99"}),
    ("sec.", "seconds.", set(READ)),
    ("sec.", "sec", set(READ)),
    ("sec.", "ms.", set(READ)),
    ("0.75000", "0.750", {"inference"}),
    ("0.04500", "nan", {"next"}),
])  # fmt: skip
def test_a_format_that_changes_is_no_longer_read(before, after, lost):
    assert before in PRINTED
    assert READ.keys() - parse(PRINTED.replace(before, after)).keys() == lost


def test_the_last_summary_of_a_log_counts_among_other_lines_and_prefixes():
    first = PRINTED.replace("0.75000", "9.00000")
    log = f"*** Starting\n{first}\nAccuracy check skip\n{PRINTED}\nAccuracy check pass\n"
    assert parse(log) == READ
    assert parse("\r\n".join(f"[0] {line}" for line in log.splitlines())) == READ


def test_a_figure_of_an_earlier_summary_does_not_stand_in():
    alone = "\n".join(spec_lines([{"total": 0.5, "tokens": [0.4]}]))
    assert parse(f"{PRINTED}\n{alone}") == {"inference": 0.5, "first": 0.4}


def test_a_log_without_a_summary_says_nothing():
    assert parse("Inference latency: 0.75000 sec.") == {}
