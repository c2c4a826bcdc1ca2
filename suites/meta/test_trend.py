"""Changes over the history of runs: false alarms, what is found and where, and the report on real and broken files."""

import datetime
import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fixtures.judge import trend as judge
from fixtures.judge.trend import SEGMENT, change_point, changes, fewest, long_enough, standing
from fixtures.report import trend
from fixtures.report.trend import main, meaning_of, read_runs

BOUND = {"alpha": 0.01}
NOISE = 0.013  # of a launch, as a share
OWN = "suites/test_latency.py::test_latency[{}]"


def noise(seed, n=20, sigma=NOISE):
    return np.exp(np.random.default_rng(seed).normal(0, sigma, n))


def stepped(seed, index, n=20, step=1.05, sigma=NOISE):
    return noise(seed, n, sigma) * np.where(np.arange(n) < index, 1, step)


# -- one series ----

SIMULATED, LEVEL = 600, 0.05


def within_its_level(alarms, of=SIMULATED, level=LEVEL):
    """Whether a count of alarms is what a test of `level` gives, at 1 in 1000 either way."""
    low, high = stats.binom.ppf([0.001, 0.999], of, level)
    return low <= alarms <= high


@pytest.mark.parametrize("law", ["normal", "heavy tails"])
def test_noise_raises_an_alarm_as_often_as_alpha_says(law):
    generator = np.random.default_rng(3)
    draw = generator.standard_normal if law == "normal" else lambda n: generator.standard_t(2, n)
    alarms = sum(change_point(np.exp(NOISE * draw(12)), LEVEL) is not None for _ in range(SIMULATED))
    assert within_its_level(alarms), f"{alarms} of {SIMULATED}"


def test_the_best_place_taken_for_the_only_one_raises_too_many():
    def smallest_p(values):
        places = range(SEGMENT, len(values) - SEGMENT + 1)
        return min(stats.mannwhitneyu(values[:k], values[k:]).pvalue for k in places)

    assert not within_its_level(sum(smallest_p(noise(seed, 12)) <= LEVEL for seed in range(200)), 200)


def test_a_step_of_five_percent_is_found_within_one_run():
    found = [change_point(stepped(seed, 10), BOUND["alpha"]) for seed in range(50)]
    assert None not in found
    assert sum(abs(change.index - 10) <= 1 for change in found) >= 48
    assert np.median([change.ratio for change in found]) == pytest.approx(1.05, abs=0.01)
    # and one within the noise is not
    assert [change_point(stepped(seed, 10, step=1.005), BOUND["alpha"]) for seed in range(50)].count(None) > 25


@pytest.mark.parametrize("index", range(SEGMENT, 20 - SEGMENT + 1))
@pytest.mark.parametrize("step", [1.05, 0.95])
def test_with_little_noise_the_first_run_after_the_change_is_named(index, step):
    for seed in range(3):
        change = change_point(stepped(seed, index, step=step, sigma=0.002), BOUND["alpha"])
        assert change.index == index
        assert change.ratio == pytest.approx(step, abs=0.005)


def outlier_alarms(place, runs=400):
    """How many of `runs` noisy series with one value of three times the size are called changed."""
    factors = np.where(np.arange(20) == place, 3, 1)
    return sum(change_point(noise(seed) * factors, BOUND["alpha"]) is not None for seed in range(runs))


@pytest.mark.parametrize("place", [0, 9, 18, 19])
def test_one_outlier_is_no_change_and_hides_none(place):
    assert outlier_alarms(place) <= stats.binom.ppf(0.999, 400, BOUND["alpha"])
    for seed in range(10):
        values = stepped(seed, 12, sigma=0.005)
        values[place] *= 3
        assert change_point(values, BOUND["alpha"]).index == 12


def test_an_outlier_that_is_not_drawn_in_hides_a_change(monkeypatch):
    values = stepped(1, 20, 40, sigma=0.005)
    values[0] *= 3
    assert change_point(values, BOUND["alpha"]).index == 20
    monkeypatch.setattr(judge, "REACH", 1000.0)
    monkeypatch.setattr(judge, "ENDS", SEGMENT)
    assert change_point(values, BOUND["alpha"]) is None


@pytest.mark.parametrize("last", [3, 4])
def test_a_change_in_the_last_runs_of_a_long_history_is_found_by_its_size(monkeypatch, last):
    values = stepped(3, 45 - last, 45, step=1.2)
    assert change_point(values, 0.002).index == 45 - last
    monkeypatch.setattr(judge, "ENDS", SEGMENT - 1)
    monkeypatch.setattr(judge, "_ends", judge._levels)
    assert change_point(values, 0.002) is None


@pytest.mark.parametrize("n", [10, 11, 12])
def test_the_fewest_runs_are_those_whose_orders_reach_the_level(n):
    orders = math.comb(n, n // 2)
    values = np.array([1.0] * (n // 2) + [2.0] * (n - n // 2)) + 1e-3 * np.arange(n)
    assert fewest(4 / orders) == n
    assert change_point(values, 8 / orders, finest=0.05 / orders).p == pytest.approx(4 / orders, rel=0.15)


@pytest.mark.parametrize("values", [[1.0] * 3 + [9.0] * 2, [1.0] * 5 + [9.0] * 4, [0.7] * 30])
def test_too_few_runs_and_equal_values_show_nothing(values):
    assert change_point(values, BOUND["alpha"]) is None


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_without_a_logarithm_is_refused(value):
    with pytest.raises(ValueError, match="no finite positive"):
        change_point([1.0] * 6 + [value], 0.05)


# -- many series ----


def test_a_family_of_series_shares_its_alpha():
    families = [{str(k): noise(1000 * seed + k, 12) for k in range(10)} for seed in range(100)]
    alarms = sum(bool(changes(family, LEVEL)) for family in families)
    assert alarms <= stats.binom.ppf(0.999, len(families), LEVEL)
    unshared = sum(any(change_point(values, LEVEL) for values in family.values()) for family in families)
    assert unshared > 3 * stats.binom.ppf(0.999, len(families), LEVEL) / 2


@pytest.mark.parametrize(("back", "rise_stands"), [(1.10, False), (1.03, True)])
def test_several_changes_are_found_and_the_level_says_what_is_left_of_them(back, rise_stands):
    values = noise(4, 45, 0.004)
    values[15:] *= 1.10
    values[30:] /= back
    (found,) = changes({"cell": values}, BOUND["alpha"]).values()
    assert [change.index for change in found] == [15, 30]
    assert [change.ratio for change in found] == pytest.approx([1.10, 1 / back], abs=0.005)
    assert standing(found) == (found if rise_stands else found[1:])


def test_series_too_short_to_show_anything_cost_the_others_nothing():
    lengths = {f"short {k}": 5 for k in range(500)} | {"long": 11}
    assert long_enough(lengths, BOUND["alpha"]) == ["long"]
    assert long_enough({f"cell {k}": 12 for k in range(96)}, BOUND["alpha"]) == []
    assert len(long_enough({f"cell {k}": 18 for k in range(96)}, BOUND["alpha"])) == 96
    assert changes({}, BOUND["alpha"]) == {}


# -- the report on made-up histories ----

CPU = {"brand_raw": "Intel(R) Xeon(R) Processor", "count": 2}


def write(folder, values, cells=None, **fields):
    """Save a history as pytest-benchmark does, run k on day k; `values` is {cell id: ratios}."""
    storage = folder / "Linux-CPython-3.11-64bit"
    storage.mkdir(parents=True, exist_ok=True)
    start = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
    for k in range(max(map(len, values.values()))):
        told = {cell: {"ratio_to_stock": float(v[k]), "floor": v[k] / 2} for cell, v in values.items() if k < len(v)}
        benchmarks = [{"fullname": OWN.format(cell), "extra_info": extra} for cell, extra in told.items()]
        data = {
            "machine_info": {"cpu": CPU},
            "commit_info": {"id": f"{k:02d}" * 20, "dirty": False, "branch": "main"},
            "benchmarks": benchmarks,
            "datetime": (start + datetime.timedelta(days=k)).isoformat(),
        }
        (storage / f"{k + 1:04d}_made.json").write_text(json.dumps(data | fields))
    return storage


def test_a_slower_cell_is_told_with_the_run_that_began_it(tmp_path, capsys):
    write(tmp_path, {"llama-a": stepped(1, 13, sigma=0.002), "llama-b": noise(2)})
    assert main([str(tmp_path)], BOUND) == 1
    slower, calm, last = capsys.readouterr().out.splitlines()
    expected = (
        r"llama-a: 20 runs; latest 1\.0\d* of stock's time; slower by \+[45]\.\d % since run 0014 of 2026-03-14 "
        r"\(commit 1313131313, not dirty\), p = 0\.00\d"
    )
    assert re.fullmatch(expected, slower)
    assert re.fullmatch(r"llama-b: 20 runs; latest \S+ of stock's time", calm)
    assert last.startswith(
        "2 series of ratio_to_stock in 20 runs = 1 slower + 0 otherwise changed + 1 without a change"
    )


@pytest.mark.parametrize("step", [1.0, 0.9])
def test_a_calm_or_faster_history_leaves_no_error(tmp_path, capsys, step):
    write(tmp_path, {"llama-a": stepped(1, 13, step=step, sigma=0.002)})
    assert main([str(tmp_path), "floor"], BOUND) == 0
    assert ("faster by -10" in capsys.readouterr().out) is (step < 1)


def test_a_rise_taken_back_is_told_and_fails_no_more(tmp_path, capsys):
    values = noise(4, 45, 0.004)
    values[15:30] *= 1.10
    write(tmp_path, {"llama-a": values})
    assert main([str(tmp_path)], BOUND) == 0
    assert "since run 0016 of 2026-03-16" in (told := capsys.readouterr().out)
    assert ", since taken back; faster by -" in told


def test_fewer_tokens_a_second_are_slower():
    assert meaning_of("tokens_per_second").less == "slower"
    (found,) = changes({"cell": stepped(1, 10, step=0.9)}, BOUND["alpha"]).values()
    assert trend.is_worse(found, "tokens_per_second")
    assert not trend.is_worse(found, "floor")


def test_runs_go_by_their_date_and_tell_their_commit(tmp_path):
    storage = write(tmp_path, {"llama-a": noise(1, 3)}, commit_info={"id": "a" * 40, "dirty": True})
    data = json.loads((storage / "0001_made.json").read_text()) | {"commit_info": None}
    (storage / "0001_made.json").unlink()
    (storage / "0009_made.json").write_text(json.dumps(data))
    runs = read_runs(tmp_path)
    assert [run.name for run in runs] == ["0009", "0002", "0003"]
    assert [run.commit for run in runs[:2]] == ["commit unknown", "commit aaaaaaaaaa, dirty"]


@pytest.mark.parametrize(("other", "told"), [
    ({"cpu": CPU | {"count": 64}}, "machine 2: Intel(R) Xeon(R) Processor, 64 CPUs (10 runs)"),
    ({"cpu": CPU | {"brand_raw": "AMD EPYC"}}, "machine 2: AMD EPYC, 2 CPUs (10 runs)"),
    ({"cpu": {}, "machine": "x86_64", "node": "b"}, "machine 2: x86_64 of host b (10 runs)"),
])  # fmt: skip
def test_machines_are_told_apart(tmp_path, capsys, other, told):
    storage = write(tmp_path, {"llama-a": stepped(1, 10, step=1.3)})
    assert main([str(tmp_path)], BOUND) == 1
    for path in sorted(storage.iterdir())[10:]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"machine_info": other}))
    capsys.readouterr()
    assert main([str(tmp_path)], BOUND) == 0
    output = capsys.readouterr().out
    assert output.startswith("2 machines, never mixed in one series:\n")
    assert all(words in output for words in (told, "llama-a on machine 1: 10 runs", "llama-a on machine 2: 10 runs"))


def test_grids_are_told_apart(tmp_path, capsys):
    storage = write(tmp_path, {"llama-a": stepped(1, 10, step=1.3)})
    for path in sorted(storage.iterdir())[10:]:
        data = json.loads(path.read_text())
        data["benchmarks"][0]["extra_info"]["grid"] = "b4-bs1-in1024-out128"
        path.write_text(json.dumps(data))
    assert main([str(tmp_path)], BOUND) == 0
    told = capsys.readouterr().out
    assert all(f"llama-a @{grid}: 10 runs" in told for grid in ("b4-bs1-in1024-out128", "unknown grid"))


def test_values_without_a_logarithm_are_left_out_and_counted(tmp_path, capsys):
    write(tmp_path, {"llama-a": [1.0, float("nan"), 0.0, 2.0]})
    assert main([str(tmp_path)], BOUND) == 0
    output = capsys.readouterr().out
    assert output.startswith("llama-a: 2 runs; latest 2 of stock's time\n2 values left out")
    assert "1 with too few runs to show one (at alpha 0.01 for 1 together it takes 11)" in output


# -- bad input ----


def one_sentence(error, words):
    return words in error and error.count("\n") == 1


def broken(text=None, size=None, **fields):
    def spoil(path):
        data = json.loads(path.read_text()) | fields
        path.write_text(json.dumps(data) if text is None else text)
        if size:
            os.truncate(path, size)  # a hole: takes no space

    return spoil


@pytest.mark.parametrize(("spoil", "words"), [
    (broken("{"), "0002_made.json: is malformed JSON"),
    (broken(""), "0002_made.json: is malformed JSON"),
    (broken("[" * 200_000), "0002_made.json: is nested more than 64 levels deep"),
    (broken("[]"), "0002_made.json: is no run of pytest-benchmark"),
    (broken("{}"), "0002_made.json: is no run of pytest-benchmark: it has no 'datetime'"),
    (broken(datetime="yesterday"), "0002_made.json: is no run of pytest-benchmark (Invalid isoformat"),
    (broken(machine_info=[]), "0002_made.json: is no run"),
    (broken(benchmarks=[{"fullname": "a"}]), "it has no 'extra_info'"),
    (broken(benchmarks=[{"fullname": "a", "extra_info": {"floor": 10**400}}]), "not a finite number of at most 300"),
    (broken(size=64 * 2**20 + 1), "0002_made.json: is bigger than 64 MiB"),
    (lambda path: path.write_bytes(b"\xff"), "0002_made.json: line 1 is not UTF-8"),
])  # fmt: skip
def test_a_file_that_is_no_run_is_one_sentence(tmp_path, capsys, spoil, words):
    spoil(write(tmp_path, {"llama-a": noise(1, 3)}) / "0002_made.json")
    assert main([str(tmp_path)], BOUND) == 2
    assert one_sentence(capsys.readouterr().err, words)


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "usage"),
    (["HISTORY", "floor", "more"], "usage"),
    (["HISTORY", "--svg"], "usage"),
    (["HISTORY/none"], "is no folder"),
    (["HISTORY/empty"], "holds no run"),
    (["HISTORY", "ratio_to_stok"], "did you mean 'ratio_to_stock'?"),
    (["HISTORY", "--svg", "HISTORY/none/a.svg"], "cannot be written"),
])  # fmt: skip
def test_a_wrong_argument_is_one_sentence(tmp_path, capsys, arguments, words):
    write(tmp_path, {"llama-a": noise(1, 3)})
    (tmp_path / "empty").mkdir()
    assert main([argument.replace("HISTORY", str(tmp_path)) for argument in arguments], BOUND) == 2
    assert one_sentence(capsys.readouterr().err, words)


# -- drawing ----


def test_the_drawing_has_a_panel_for_each_series_and_marks_the_change(tmp_path):
    write(tmp_path, {"llama-a": stepped(1, 13, sigma=0.002), "llama <b> & c": noise(2)})
    main([str(tmp_path), "floor", "--svg", str(tmp_path / "trend.svg")], BOUND)
    drawn = (tmp_path / "trend.svg").read_text()
    root = ElementTree.fromstring(drawn)
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"llama-a", "llama <b> & c", "floor [s]", "0001", "0014", "0020"} <= set(texts)
    assert [text for text in texts if text.endswith(" %")] == ["+4.9 %"]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 40
    assert drawn.count('class="change worse"') == 1


# -- what pytest-benchmark really writes ----

SCRATCH = """
import pytest

@pytest.mark.parametrize("cell", ["one", "two"])
def test_latency(benchmark, cell):
    benchmark.pedantic(sum, args=([1, 2],), rounds=3)
    benchmark.extra_info.update(floor=1.0, grid="b1", name=cell)
"""


@pytest.fixture(scope="module")
def real_history(tmp_path_factory):
    """Two runs of a tiny test outside the project, saved by the installed pytest-benchmark itself, and ten copies.

    The copies lie days later, and from the seventh run on the second test is twice as slow.
    """
    folder = tmp_path_factory.mktemp("scratch")
    (folder / "test_scratch.py").write_text(SCRATCH)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for save in ("--benchmark-autosave", "--benchmark-save=named"):
        pytest_run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-storage=history", save)
    (saved,) = folder.glob("history/*/0002_named.json")
    for k in range(3, 13):
        data = json.loads(saved.read_text())
        when = datetime.datetime.fromisoformat(data["datetime"]) + datetime.timedelta(days=k)
        for entry in data["benchmarks"]:
            slower = k >= 7 and entry["name"] == "test_latency[two]"
            entry["extra_info"]["floor"] += 0.001 * (k % 3) + slower
        saved.with_name(f"{k:04d}_named.json").write_text(json.dumps(data | {"datetime": when.isoformat()}))
    return folder / "history"


def pytest_run(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, *arguments]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_what_pytest_benchmark_saves_is_read(real_history, capsys):
    runs = read_runs(real_history)
    assert [run.name for run in runs] == [f"{k:04d}" for k in range(1, 13)]
    assert len({run.machine for run in runs}) == 1
    assert main([str(real_history), "floor"], {"alpha": 0.05}) == 1
    one, two, last = capsys.readouterr().out.splitlines()
    assert "test_latency[two]: 12 runs; latest 2 s; slower by +100.1 %" in two
    assert "since run 0007 of 20" in two
    assert last.startswith("2 series of floor in 12 runs = ")
    assert "[one]: 12 runs; latest 1 s" in one


def test_pytest_benchmark_itself_still_reads_the_folder(real_history):
    main([str(real_history), "floor", "--svg", str(real_history / "trend.svg")], {"alpha": 0.05})
    tool = str(Path(sys.executable).with_name("pytest-benchmark"))
    listed = pytest_run(real_history.parent, tool, "--storage", str(real_history), "list")
    compared = pytest_run(real_history.parent, tool, "--storage", str(real_history), "compare", "--columns=min")
    assert len(listed.split()) == 12
    assert compared.count("test_latency[two] (") == 12
    assert "Failed to load" not in compared
