"""The results: fingerprints that give nobody away, and baselines that can be reviewed and are never lost."""

import difflib
import getpass
import json
import os
import pickle
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fixtures.results import Baselines, Fingerprint, ResultsError, Value, machine_fingerprint, numerics_key, provenance
from fixtures.results import baselines as baselines_module
from fixtures.system.fingerprint import ISA_LEVELS, _coarse_gib, _quota_cores, cpu_flags, isa_level

ROOT = Path(__file__).resolve().parents[3]
CELL, OTHER, THIRD = "llama-2-7b-bf16-cpu-single", "opt-6.7b-bf16-cpu-single", "phi-3.5-mini-bf16-cpu-single"
KEY = "amd-epyc-2c-23g-1a2b3c4d"
ADDRESS = ("latency", "cpu", KEY)
ORIGIN = {"date": "2026-01-02T03:04:05Z", "machine": {"slug": KEY}}


def seconds(value, spread=None):
    return {"end_to_end": Value(value, spread, "s")}


def file_of(folder, suite="latency", platform="cpu", key=KEY):
    return folder / platform / key / f"{suite}.json"


@pytest.fixture
def folder(tmp_path):
    """A baselines folder with two cells accepted under one provenance."""
    store = Baselines(tmp_path)
    store.record(*ADDRESS, CELL, seconds(0.1331, 0.002), 5)
    store.record(*ADDRESS, OTHER, seconds(0.25), 5)
    store.commit(ORIGIN)
    return tmp_path


# The machine


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu amx_bf16 amx_tile avx512_bf16 avx512f avx2", "amx"),
        ("amx_tile avx512_bf16 avx512f avx2", "avx512_bf16"),
        ("avx512f avx2", "avx512"),
        ("avx2 avx", "avx2"),
        ("asimd", "generic"),
        ("", "generic"),
    ],
)
def test_isa_level_is_the_best_whose_flags_are_all_there(flags, level):
    assert isa_level(frozenset(flags.split())) == level


def test_slug_is_stable_safe_and_tells_every_field_apart():
    base = Fingerprint("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz (family 6)", 56, 248, "amx", ("a", "b"))
    assert base.slug.startswith("intel-xeon-platinum-8480-56c-248g-")
    assert base.slug == pickle.loads(pickle.dumps(base)).slug
    others = [
        Fingerprint(base.cpu + "x", 56, 248, "amx", ("a", "b")),
        Fingerprint(base.cpu, 55, 248, "amx", ("a", "b")),
        Fingerprint(base.cpu, 56, 240, "amx", ("a", "b")),
        Fingerprint(base.cpu, 56, 248, "avx2", ("a", "b")),
        Fingerprint(base.cpu, 56, 248, "amx", ("b", "a")),
        Fingerprint("私", 56, 248, "amx", ()),
    ]
    slugs = {machine.slug for machine in (base, *others)}
    assert len(slugs) == 1 + len(others)
    assert all(len(slug) < 100 and not set(slug) - set("abcdefghijklmnopqrstuvwxyz0123456789-") for slug in slugs)


def test_this_machine_names_no_host_and_no_user():
    machine = machine_fingerprint(("Some GPU",))
    assert machine == machine_fingerprint(["Some GPU"])
    assert 1 <= machine.cores <= len(os.sched_getaffinity(0))
    assert machine.isa == isa_level(cpu_flags()) in ISA_LEVELS
    words = {word for field in (machine.cpu, machine.slug) for word in field.lower().replace("-", " ").split()}
    assert not words & {socket.gethostname().lower(), getpass.getuser().lower()}


def test_cores_follow_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert machine_fingerprint().cores == 1


@pytest.mark.parametrize(
    ("kib", "gib"),
    [
        (24684084, 23),
        (int(15.4 * 2**20), 15),
        (int(15.6 * 2**20), 15),
        (int(62.4 * 2**20), 62),
        (int(62.9 * 2**20), 62),
        (int(251.2 * 2**20), 248),
        (int(252.9 * 2**20), 248),
        (1000, 0),
    ],
)
def test_memory_does_not_move_with_what_the_kernel_keeps_back(kib, gib):
    assert _coarse_gib(kib << 10) == gib


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
        ("0::/gone\n", {"cpu.max": "400000 100000\n"}, 4),
        ("3:cpu,cpuacct:/j\n", {"cpu/j/cpu.cfs_quota_us": "200000", "cpu/j/cpu.cfs_period_us": "100000"}, 2),
        ("3:cpu:/j\n0::/\n", {"cpu/j/cpu.cfs_quota_us": "-1", "cpu/j/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "garbage\n"}, None),
        ("2:memory:/\nnonsense\n", {}, None),
    ],
)
def test_quota_of_control_groups(tmp_path, membership, files, cores):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert _quota_cores(tmp_path / "membership", tmp_path / "fs") == cores


def test_numerics_key_is_the_isa_on_the_host_and_the_device_elsewhere():
    assert numerics_key("cpu", "whatever") == isa_level(cpu_flags())
    assert numerics_key("max1550", "Intel(R) Data Center GPU Max 1550") == "intel-data-center-gpu-max-1550"
    with pytest.raises(ResultsError, match=r"platform 'b580' has the device name ' '.*; check the device's driver"):
        numerics_key("b580", " ")


def test_provenance_knows_the_commit_and_whether_it_is_dirty(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    def commit():
        return provenance({"torch": "2.8.0"}, "pytest -m llama2", tmp_path)["commit"]

    assert commit() == "unknown"
    for name in ("code.py", "baselines/b.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "-q")
    assert commit() == "unknown"
    git("add", "-A")
    git("commit", "-qm", "one")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")  # as a hook may leave it
    clean = commit()
    assert len(clean) == 12
    assert int(clean, 16)
    (tmp_path / "untracked").write_text("1")
    (tmp_path / "baselines/b.json").write_text("2")
    assert commit() == clean
    (tmp_path / "code.py").write_text("2")
    assert commit() == f"{clean}+dirty"
    (tmp_path / "inner").mkdir()
    assert provenance({}, "", tmp_path / "inner")["commit"] == "unknown"
    monkeypatch.setenv("PATH", "/nonexistent")
    assert commit() == "unknown"


def test_provenance_is_plain_data_to_the_second(tmp_path):
    found = provenance({"torch": "2.8.0"}, "pytest -m llama2", tmp_path, ("Some GPU",))
    assert json.loads(json.dumps(found)) == found
    assert found["machine"]["slug"] == machine_fingerprint(("Some GPU",)).slug
    assert found["machine"]["devices"] == ["Some GPU"]
    assert (found["command"], found["versions"]) == ("pytest -m llama2", {"torch": "2.8.0"})
    assert len(found["date"]) == len("2026-01-02T03:04:05Z")
    assert found["date"].endswith("Z")


# Baselines


def test_round_trip(folder):
    entry = Baselines(folder).find(*ADDRESS, CELL)
    assert (entry.cell, entry.n, entry.provenance) == (CELL, 5, ORIGIN)
    assert entry.values == {"end_to_end": Value(0.1331, 0.002, "s")}
    assert entry.accepted.count("-") == 2
    assert Baselines(folder).find(*ADDRESS, OTHER).values["end_to_end"].spread is None
    assert Baselines(folder).find(*ADDRESS, "absent") is None
    assert Baselines(folder).find("generation", "cpu", "avx2", CELL) is None
    assert Baselines(folder / "absent").find(*ADDRESS, CELL) is None
    assert not stat.S_IMODE(file_of(folder).stat().st_mode) & 0o111


def test_floats_are_rounded_and_the_text_is_canonical(folder):
    store = Baselines(folder)
    store.record(*ADDRESS, CELL, {"z": Value(1234567.8), "a": Value(1 / 3, 2, "s"), "count": Value(61389824.0)}, 1)
    store.commit(ORIGIN)
    text = file_of(folder).read_text()
    assert json.loads(text)["cells"][CELL]["values"]["count"]["value"] == 61389824, "whole numbers are kept"
    assert json.loads(text)["cells"][CELL]["values"]["z"]["value"] == 1234570
    assert '"value": 0.333333\n' in text
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"


def test_only_what_changed_is_reported_and_written(folder, monkeypatch):
    monkeypatch.setattr(baselines_module, "_today", lambda: "2030-01-01")
    before = file_of(folder).read_text().splitlines()
    store = Baselines(folder)
    assert store.find(*ADDRESS, CELL) is not None
    store.record(*ADDRESS, CELL, seconds(0.1402, 0.002), 5)
    store.record(*ADDRESS, OTHER, seconds(0.25000001), 5)
    assert store.find(*ADDRESS, CELL).values["end_to_end"].value == 0.1331, "staged is not accepted"
    assert store.commit({"date": "later"}) == [f"{CELL} latency end_to_end: 0.1331 -> 0.1402 s (+5.3%)"]
    assert store.find(*ADDRESS, CELL).values["end_to_end"].value == 0.1402
    assert (store.find(*ADDRESS, CELL).provenance, store.find(*ADDRESS, OTHER).provenance) == (
        {"date": "later"},
        ORIGIN,
    )
    assert store.commit(ORIGIN) == []
    after = file_of(folder).read_text().splitlines()
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert [line[2:].split(":")[0].strip() for line in changes if line[0] == "-"] == [
        '"accepted"',
        '"provenance"',
        '"value"',
    ]
    assert [line[2:].strip() for line in changes if line[0] == "+"] == [
        '"accepted": "2030-01-01",',
        '"provenance": "p2",',
        '"value": 0.1402',
        "},",
        '"p2": {',
        '"date": "later"',
    ]


def test_provenance_is_shared_dropped_and_never_renumbered(folder):
    store = Baselines(folder)
    store.record(*ADDRESS, THIRD, seconds(1), 1)
    store.commit(dict(ORIGIN))
    assert list(json.loads(file_of(folder).read_text())["provenance"]) == ["p1"]
    for cell in (CELL, OTHER, THIRD):
        store.record(*ADDRESS, cell, seconds(2), 1)
    store.commit({"date": "later"})
    assert json.loads(file_of(folder).read_text())["provenance"] == {"p2": {"date": "later"}}


def test_every_kind_of_change_has_its_line(folder):
    def reported(values, n=5):
        store = Baselines(folder)
        store.record(*ADDRESS, CELL, values, n)
        return [line.removeprefix(f"{CELL} latency ") for line in store.commit(ORIGIN)]

    assert reported(seconds(0.1331, 0.003)) == ["end_to_end: 0.1331 s as before, spread 0.002 -> 0.003"]
    assert reported(seconds(0.133104)) == ["end_to_end: 0.1331 -> 0.133104 s (+0.0%)"]
    assert reported(seconds(0.133104), n=7) == ["n: 5 -> 7"]
    assert reported({"end_to_end": Value(133.1, None, "ms")}, 7) == ["end_to_end: 0.1331 s -> 133.1 ms (another unit)"]
    assert reported({"tokens": Value(0)}, 7) == ["end_to_end: removed, was 133.1 ms", "tokens: new, 0"]
    assert reported({"tokens": Value(3)}, 7) == ["tokens: 0 -> 3"]


def test_elsewhere_lists_machines_that_have_the_cell(folder):
    store = Baselines(folder)
    store.record("latency", "cpu", "other-machine", CELL, seconds(1), 1)
    store.record("generation", "cpu", "amx", OTHER, seconds(1), 1)
    store.commit(ORIGIN)
    (folder / "cpu" / "README").write_text("a note is no machine")
    fresh = Baselines(folder)
    assert fresh.elsewhere("latency", "cpu", CELL) == (KEY, "other-machine")
    assert fresh.elsewhere("generation", "cpu", OTHER) == ("amx",)
    assert fresh.elsewhere("latency", "cpu", THIRD) == ()
    assert fresh.elsewhere("latency", "max1550", CELL) == ()


def test_commit_keeps_what_another_run_committed_meanwhile(folder):
    first, second = Baselines(folder), Baselines(folder)
    assert first.find(*ADDRESS, THIRD) is None
    second.record(*ADDRESS, THIRD, seconds(3), 1)
    second.commit(ORIGIN)
    first.record(*ADDRESS, CELL, seconds(4), 1)
    first.commit(ORIGIN)
    assert set(json.loads(file_of(folder).read_text())["cells"]) == {CELL, OTHER, THIRD}


def test_two_suites_of_one_folder_and_many_committers_do_not_block_each_other(folder):
    def accept(number):
        store = Baselines(folder)
        store.record(*ADDRESS, f"cell-{number}", seconds(number), 1)
        store.record("generation", "cpu", KEY, f"cell-{number}", seconds(number), 1)
        store.commit(ORIGIN)

    threads = [threading.Thread(target=accept, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    for suite in ("latency", "generation"):
        cells = json.loads(file_of(folder, suite).read_text())["cells"]
        assert {f"cell-{number}" for number in range(8)} <= set(cells)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_interrupted_commit_leaves_the_old_file_and_nothing_else(folder, monkeypatch, fault, call):
    def broken(*_):
        raise fault

    before = file_of(folder).read_bytes()
    store = Baselines(folder)
    store.record(*ADDRESS, CELL, seconds(9), 1)
    with monkeypatch.context() as patch:
        patch.setattr(baselines_module.os, call, broken)
        expected = ResultsError if isinstance(fault, OSError) else KeyboardInterrupt
        with pytest.raises(expected) as caught:
            store.commit(ORIGIN)
    if expected is ResultsError:
        hint = "the old numbers are kept; name a folder with free space that this user may write to"
        assert str(caught.value).endswith(f"cannot be written (No space left on device); {hint}")
    assert file_of(folder).read_bytes() == before
    assert os.listdir(file_of(folder).parent) == ["latency.json"]
    assert len(store.commit(ORIGIN)) == 2, "what was staged can still be committed"


def test_killed_commit_leaves_a_readable_file(folder):
    """Killed just before the replacement: the old numbers are all there, and the next commit works."""
    script = (
        "import os, sys\n"
        "from fixtures.results import Baselines, Value\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "store = Baselines(sys.argv[1])\n"
        f"store.record(*{ADDRESS!r}, {CELL!r}, {{'end_to_end': Value(9)}}, 1)\n"
        "store.commit({})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], cwd=ROOT)
    assert done.returncode == -9
    store = Baselines(folder)
    assert store.find(*ADDRESS, CELL).values == seconds(0.1331, 0.002)
    store.record(*ADDRESS, CELL, seconds(1), 1)
    assert store.commit(ORIGIN)


@pytest.mark.parametrize(
    ("value", "spread"),
    [(float("nan"), None), (float("inf"), None), (-1, None), (1, -1), (True, None), ("1", None)],
)
def test_a_value_that_could_not_be_read_back_cannot_be_made(value, spread):
    with pytest.raises(ValueError, match="finite numbers of 0 or more"):
        Value(value, spread)


@pytest.mark.parametrize(
    "arguments",
    [
        ("speed", "cpu", KEY, CELL, seconds(1), 1),
        ("latency", "../up", KEY, CELL, seconds(1), 1),
        ("latency", "cpu", ".hidden", CELL, seconds(1), 1),
        ("latency", "cpu", KEY, " ", seconds(1), 1),
        ("latency", "cpu", KEY, CELL, {}, 1),
        ("latency", "cpu", KEY, CELL, seconds(1), 0),
    ],
)
def test_bad_staging_is_refused_at_once(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"baselines|cannot record"):
        Baselines(tmp_path).record(*arguments)
