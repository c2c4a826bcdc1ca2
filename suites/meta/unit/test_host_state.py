"""Whether a timing is valid: readings of made-up machines and of this one, and every cause to doubt a timing."""

import copy
import json
import os
import subprocess
import sys
import time

import pytest

from fixtures.checks import host_state as checks
from fixtures.system import host_state

BOUND = {"foreign_load": 0.1, "steal": 0.02, "clock_jump": 0.05, "device_normal": ["gpu_idle", "sw_power_cap"]}
TICK = host_state.TICK
PID = 4242


# -- made-up machines ----


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def process(root, pid, seconds, threads=2, state="S", start=77):
    """A /proc/PID/stat whose name holds a blank and brackets; half of the seconds are its children's."""
    ticks = round(seconds * TICK / 4)
    fields = [state, 1, 2, 3, 0, -1, 0, 0, 0, 0, 0, ticks, ticks, ticks, ticks, 20, 0, threads, 0, start, 0]
    put(root / f"proc/{pid}/stat", f"{pid} (a (bad) name) {' '.join(map(str, fields))}\n")


def core(root, number, governor="performance", throttled=0):
    cpu = root / f"sys/devices/system/cpu/cpu{number}"
    put(cpu / "cpufreq/scaling_governor", f"{governor}\n")
    put(cpu / "cpufreq/scaling_cur_freq", "2500000\n")
    put(cpu / "thermal_throttle/core_throttle_count", f"{throttled}\n")
    put(cpu / "thermal_throttle/package_throttle_count", "3\n")


def machine(root, busy=0.0, steal=0.0, own=0.0, worker=0.0, swapped=0):
    """A machine of four cores of which two are ours, each with that many more seconds than when it was new."""
    mine = [round((1 + busy / 2) * TICK), 0, TICK, 5 * TICK, TICK, 0, 0, round(steal / 2 * TICK), 55, 0]
    others = [900 * TICK] * 10
    rows = {"cpu": others, "cpu0": mine, "cpu1": mine, "cpu2": others, "cpu3": others}
    put(root / "proc/stat", "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in rows.items()) + "ctxt 1\n")
    put(root / "proc/vmstat", f"nr_free_pages 1\npswpin {7 + swapped}\npswpout 5\n")
    process(root, os.getpid(), 1 + own, threads=1)
    process(root, PID, 2 + worker)
    core(root, 0)
    core(root, 1)


def reading(root, pids=(PID,), cores=(0, 1)):
    return host_state.snapshot(pids, root / "proc", root / "sys", cores)


@pytest.fixture
def quiet(tmp_path):
    """Snapshots of ten seconds of a machine on which only our own processes worked, and one on its device."""
    machine(tmp_path)
    before = reading(tmp_path)
    machine(tmp_path, busy=8, own=1, worker=7)
    after = reading(tmp_path) | {key: before[key] + 10 for key in ("monotonic", "wall")}
    after["cpu"]["idle"] += 12  # the rest of two cores in ten seconds
    device = {"devices": {"0": {"reasons": 0x4, "sm_clock": 1_980_000_000}}, "pids": [PID], "strangers": []}
    return before | {"devices": device}, after | {"devices": copy.deepcopy(device)}


def line(snapshots, bound=BOUND):
    (reported,) = checks.check_host_state(*snapshots, bound)
    assert reported.check == "host_state"
    return reported


# -- reading ----


def test_a_made_up_machine_is_read_as_it_is(tmp_path):
    machine(tmp_path, busy=2, steal=0.5, worker=1, swapped=3)
    seen = reading(tmp_path)
    assert seen["cpu"] == {"busy": 6.0, "idle": 12.0, "steal": 0.5}  # of cores 0 and 1 alone
    assert seen["processes"][str(PID)] == {"cpu": 3.0, "threads": 2, "start": 77}
    assert seen["processes"][seen["self"]]["cpu"] == 1.0
    assert (seen["swap_ins"], seen["governors"]) == (10, {"0": "performance", "1": "performance"})
    assert seen["frequencies"] == {"0": 2_500_000_000, "1": 2_500_000_000}
    assert seen["throttles"] == {"core 0": 0, "core 1": 0, "package of core 0": 3, "package of core 1": 3}


def test_a_machine_that_tells_nothing_is_read_without_an_exception(tmp_path):
    seen = reading(tmp_path)
    assert seen["processes"] == {seen["self"]: None, str(PID): None}
    assert {seen[key] for key in ("cpu", "swap_ins", "governors", "frequencies", "throttles")} == {None}


@pytest.mark.parametrize("text", ["", "cpu0 1 2 3\ncpu1 1 2 3\n", "cpu0 a b c d e f g h\n", "\x00"])
def test_nonsense_is_not_seen(tmp_path, text):
    machine(tmp_path)
    cpu = "sys/devices/system/cpu/cpu0/"
    names = ("proc/stat", "proc/vmstat", f"proc/{PID}/stat", cpu + "cpufreq/scaling_cur_freq")
    for name in names:
        put(tmp_path / name, text)
    put(tmp_path / cpu / "cpufreq/scaling_governor", "")
    (tmp_path / cpu / "thermal_throttle/core_throttle_count").write_bytes(b"\xff")
    seen = reading(tmp_path, cores=[0])
    assert (seen["cpu"], seen["swap_ins"], seen["frequencies"], seen["processes"][str(PID)]) == (None,) * 4
    assert seen["throttles"] == {"package of core 0": 3}


def test_a_process_that_ended_keeps_its_seconds_and_has_no_threads(tmp_path):
    machine(tmp_path)
    process(tmp_path, PID, 5, state="Z")
    assert reading(tmp_path)["processes"][str(PID)] == {"cpu": 5.0, "threads": 0, "start": 77}


def test_this_machine_is_read_in_less_than_20_ms_and_the_reading_survives_json():
    durations = []
    for _ in range(5):
        begun = time.perf_counter()
        seen = host_state.snapshot([os.getppid()])
        durations.append(time.perf_counter() - begun)
    assert min(durations) < 0.02, durations
    assert json.loads(json.dumps(seen)) == seen
    assert seen["cores"] == sorted(os.sched_getaffinity(0))
    assert seen["processes"][seen["self"]]["cpu"] == pytest.approx(sum(os.times()[:4]), abs=0.1)


# -- judging ----


def test_a_quiet_stretch_passes_and_tells_what_was_seen(quiet):
    reported = line(quiet)
    assert (reported.verdict, reported.allowed) == ("PASS", "")
    for words in ("10 s", "own load 0.80 cores, 0.10 of this", "foreign load 0.00 of 2", "steal 0.0%", "no swap-ins"):
        assert words in reported.measured
    for words in ("2 threads of 1 workers", "governor performance", "no throttling", "2.50 then 2.50 GHz", "1.98 GHz"):
        assert words in reported.measured
    assert "not seen" not in reported.measured


def change(place, value):
    """A fault: the second snapshot has `value` (of the old one, where it is a function) at a path of keys."""

    def plant(before, after):
        *way, last = place
        for key in way:
            after = after[key]
        after[last] = value(after[last]) if callable(value) else value

    return plant


def more(amount):
    return lambda old: old + amount


WORKER, DEVICE = ("processes", str(PID)), ("devices", "devices", "0")


@pytest.mark.parametrize(("fault", "words"), [
    (change(("cpu", "busy"), more(2.0)), "foreign load of 0.20 cores, allowed 0.1"),
    (change(("cpu", "steal"), more(1.0)), "the hypervisor took 4.8% of the CPU time, allowed 2.0%"),
    (change(("governors", "1"), "powersave"), "the governor changed: core 1 performance to powersave"),
    (change(("throttles", "core 1"), more(2)), "heat slowed core 1 2 times"),
    (change(("throttles", "package of core 0"), more(1)), "heat slowed package of core 0 1 times"),
    (change(("wall",), more(0.06)), "the wall clock jumped by +0.06 s, allowed 0.05"),
    (change(("wall",), more(-3600)), "the wall clock jumped by -3.6e+03 s"),
    (change((*WORKER, "threads"), 3), f"process {PID} has 3 threads, before 2"),
    (change((*WORKER, "threads"), 0), f"process {PID} ended"),
    (change((*WORKER, "start"), more(5)), f"process {PID} ended"),  # another of the same number
    (change(WORKER, None), f"process {PID} ended"),
    (change(("processes", "99"), {"cpu": 0.0, "threads": 1, "start": 1}), "process 99 appeared"),
    (change(("swap_ins",), more(12)), "12 pages came back from swap"),
    (change(("cores",), [0]), "this process may run on 1 cores, before on 2"),
    (change((*DEVICE, "reasons"), 0x44), "device 0 is throttled: hw_thermal_slowdown"),
    (change((*DEVICE, "reasons"), 0x1008), "device 0 is throttled: hw_slowdown, 0x1000"),
    (change(("devices", "pids"), [PID, 31]), "foreign on the device: process 31"),
    (change(("monotonic",), 0.0), "the second snapshot is not later than the first"),
])  # fmt: skip
def test_each_cause_makes_a_timing_inconclusive_and_is_named(quiet, fault, words):
    fault(*quiet)
    reported = line(quiet)
    assert reported.verdict == "INCONCLUSIVE"
    assert words in reported.measured


def test_throttling_seen_before_the_stretch_counts_too(quiet):
    quiet[0]["devices"]["devices"]["0"]["reasons"] = 0x80
    assert "hw_power_brake_slowdown" in line(quiet).measured


def test_several_causes_are_all_named(quiet):
    change(("swap_ins",), more(1))(*quiet)
    change(("cpu", "busy"), more(9.0))(*quiet)
    reported = line(quiet).measured
    assert "foreign load of 0.90" in reported
    assert "1 pages" in reported


def test_what_lies_within_the_limits_is_no_cause(quiet):
    change(("cpu", "busy"), more(0.9))(*quiet)
    change(("cpu", "steal"), more(0.3))(*quiet)
    change(("wall",), more(-0.04))(*quiet)
    change((*DEVICE, "reasons"), 0x5)(*quiet)
    assert line(quiet).verdict == "PASS"


def test_a_worker_that_is_gone_makes_its_seconds_foreign(quiet):
    quiet[1]["processes"][str(PID)] = None
    assert checks.foreign_load(*quiet) == pytest.approx(0.7)


@pytest.mark.parametrize(("key", "words"), [
    ("cpu", "foreign load, steal"),
    ("governors", "governor"),
    ("throttles", "throttle counters"),
    ("swap_ins", "swap-ins"),
    ("frequencies", "frequency"),
    ("devices", "device clocks, processes on the device"),
])  # fmt: skip
@pytest.mark.parametrize("which", [0, 1])
def test_a_source_that_either_snapshot_lacks_is_reported_as_not_seen(quiet, key, words, which):
    quiet[which][key] = None
    reported = line(quiet)
    assert reported.verdict == "PASS"
    assert reported.measured.endswith(f"; not seen: {words}")


def test_devices_that_were_not_asked_for_are_not_missed(quiet):
    for snapshot in quiet:
        del snapshot["devices"]
    assert "device" not in line(quiet).measured


def test_a_worker_that_was_never_there_is_reported_as_not_seen(quiet):
    for snapshot in quiet:
        snapshot["processes"]["99"] = None
    assert line(quiet).measured.endswith("not seen: process 99")


def test_counters_that_stand_still_show_no_load(quiet):
    quiet[1]["cpu"] = dict(quiet[0]["cpu"])
    assert "not seen: foreign load, steal" in line(quiet).measured


def test_load_of_ours_on_cores_that_were_not_added_up_hides_that_of_others(quiet):
    change((*WORKER, "cpu"), more(9.0))(*quiet)
    assert "not seen: foreign load (our own is on other cores)" in line(quiet).measured


def test_nothing_seen_is_no_pass(tmp_path):
    before = reading(tmp_path)
    reported = line((before, before | {key: before[key] + 1 for key in ("monotonic", "wall")}))
    assert (reported.verdict, reported.measured.split(" (")[0]) == ("INCONCLUSIVE", "nothing of the machine was seen")


def test_a_process_of_the_host_that_a_container_cannot_see_is_neither_foreign_nor_fine(quiet):
    for snapshot in quiet:
        snapshot["devices"] |= {"pids": [900_001], "strangers": [900_001]}
    reported = line(quiet)
    assert reported.verdict == "PASS"
    assert reported.measured.endswith("not seen: whose 1 processes on the device are")


# -- devices, by a made-up nvidia-smi on PATH ----


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts a shell script in the place of nvidia-smi; no other is found."""

    def write(script):
        program = tmp_path / "bin/nvidia-smi"
        put(program, f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return write


ANSWERS = """echo "$@" >> "$0.selected"
case "$1" in
  --query-gpu=*) echo "0, 0x0000000000000041, 345 MHz, 8, 16"; echo "1, [N/A], [N/A], [N/A], [N/A]" ;;
  *) echo 17; echo 17; echo 18; echo "[Insufficient Permissions]" ;;
esac"""


def test_the_devices_are_read_from_the_made_up_program(smi, tmp_path):
    smi(ANSWERS)
    put(tmp_path / "proc/17/stat", "")
    seen = host_state.devices([0, 1], tmp_path / "proc")
    known = {"reasons": 0x41, "sm_clock": 345_000_000, "link": [8, 16]}
    silent = {"reasons": None, "sm_clock": None, "link": [None, None]}
    assert seen == {"devices": {"0": known, "1": silent}, "pids": [17, 18], "strangers": [18]}
    assert all("--format=csv,noheader --id=0,1" in selected for selected in open(tmp_path / "bin/nvidia-smi.selected"))
    assert checks.reasons_of(0x41) == ["gpu_idle", "hw_thermal_slowdown"]


def test_a_narrow_link_disturbs_and_a_full_one_does_not(quiet):
    for reading in quiet:
        reading["devices"]["devices"]["0"]["link"] = [16, 16]
    assert line(quiet).verdict == "PASS"
    quiet[1]["devices"]["devices"]["0"]["link"] = [8, 16]
    assert "device 0 has a link of 8 lanes, it could have 16" in line(quiet).measured


def test_a_device_that_tells_no_reasons_is_not_seen(quiet):
    quiet[1]["devices"]["devices"]["0"]["reasons"] = None
    assert line(quiet).measured.endswith("not seen: throttle reasons of device 0")


@pytest.mark.parametrize("script", [None, "exit 9", "/bin/sleep 20"])
def test_no_program_or_one_that_fails_or_hangs_gives_none_in_time(smi, script):
    if script:
        smi(script)
    begun = time.monotonic()
    assert host_state.devices(timeout=0.3) is None
    assert time.monotonic() - begun < 5


# -- this machine, nothing made up ----

LOOP = "import time\nuntil = time.monotonic() + 20\nprint(flush=True)\nwhile time.monotonic() < until: pass"


def test_a_busy_loop_of_another_process_is_foreign_load_and_one_of_ours_is_not():
    child = subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()  # it runs
        snapshots = [(host_state.snapshot(), host_state.snapshot([child.pid]))]
        time.sleep(1.0)
        snapshots.append((host_state.snapshot(), host_state.snapshot([child.pid])))
    finally:
        child.kill()
        child.communicate()
    foreign, ours = zip(*snapshots, strict=True)
    load, rest = checks.foreign_load(*foreign), checks.foreign_load(*ours)
    used = checks.own_seconds(*ours) - checks.own_seconds(*foreign)
    assert used > 0.2  # of a core, however busy this machine is otherwise
    assert load - rest == pytest.approx(used, abs=0.15)
    bound = BOUND | {"foreign_load": (load + max(rest, 0)) / 2}  # whatever others did in that second is in both
    assert "foreign load of" in line(foreign, bound).measured
    assert line(foreign, bound).verdict == "INCONCLUSIVE"
    assert "foreign load of" not in line(ours, bound).measured


def test_what_children_used_is_ours_once_they_were_waited_for():
    burn = "import time\nuntil = time.process_time() + 0.4\nwhile time.process_time() < until: pass"
    with host_state.watched() as readings:
        subprocess.run([sys.executable, "-c", burn], check=True)
    assert checks.own_seconds(*readings) > 0.4


def test_what_disturbed_the_machine_is_one_sentence(quiet):
    busy = quiet[0], copy.deepcopy(quiet[1])
    busy[1]["cpu"]["busy"] += 10
    assert checks.disturbance(*quiet, BOUND) == ""
    assert checks.disturbance(*busy, BOUND).startswith("foreign load of")


@pytest.mark.parametrize("device_type", ["cuda", "xpu"])
def test_the_state_of_accelerators_is_read_too_or_said_to_be_unseen(device_type, monkeypatch):
    monkeypatch.setattr(host_state, "devices", lambda ids: None)
    with host_state.watched((), device_type) as readings:
        pass
    assert "not seen" in line(readings).measured
    assert "device clocks" in line(readings).measured


def test_only_the_devices_in_use_are_asked_about(monkeypatch):
    selected = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    monkeypatch.setattr(host_state, "devices", selected.append)
    with host_state.watched((), "cuda", ranks=2):
        pass
    assert selected == [["3", "5"]] * 2
