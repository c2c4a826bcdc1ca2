"""A device's clock is put back however a run ends: with a made-up nvidia-smi and a made-up sysfs, no device."""

import signal
import subprocess
import sys
import time

import pytest

from fixtures.system.device_clock import ClockError, fixed, settings_for
from suites.meta.harness.inner import ROOT

RUN = """
import signal, time
from fixtures.system.device_clock import fixed, settings_for
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
with fixed(settings_for("cuda", 1200, ["0"])):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """The log of a program in the place of nvidia-smi."""
    program, log = tmp_path / "bin/nvidia-smi", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return log


FIXED, RESTORED = "--id=0 --lock-gpu-clocks=1200,1200", "--id=0 --reset-gpu-clocks"


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def test_the_clock_is_fixed_within_the_block_and_restored_after_it(smi):
    with fixed(settings_for("cuda", 1200, ["0"])):
        assert lines(smi) == [FIXED]
    assert lines(smi) == [FIXED, RESTORED]


def test_an_exception_restores_it_too(smi):
    with pytest.raises(KeyboardInterrupt), fixed(settings_for("cuda", 1200, ["0"])):
        raise KeyboardInterrupt
    assert lines(smi) == [FIXED, RESTORED]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_has_its_clock_put_back(smi, number):
    run = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout.readline() == "in\n"
        run.send_signal(number)
        run.wait(20)
    end = time.monotonic() + 20
    while len(lines(smi)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert lines(smi) == [FIXED, RESTORED]


@pytest.mark.parametrize("places", [
    ("device/tile0/gt0/freq0/min_freq", "device/tile0/gt0/freq0/max_freq"),
    ("gt/gt0/rps_min_freq_mhz", "gt/gt0/rps_max_freq_mhz"),
])  # fmt: skip
def test_intels_limits_in_sysfs_are_set_and_put_back(tmp_path, places):
    files = [tmp_path / "class/drm/card0" / place for place in places]
    files[0].parent.mkdir(parents=True)
    for path, text in zip(files, ("300", "2400"), strict=True):
        path.write_text(text)
    with fixed(settings_for("xpu", 1600, ["0"], tmp_path)):
        assert [path.read_text() for path in files] == ["1600", "1600"]
    assert [path.read_text() for path in files] == ["300", "2400"]


def test_a_clock_that_may_not_be_fixed_is_one_sentence_and_nothing_is_left_changed(smi):
    program = smi.parent / "bin/nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Insufficient Permissions' >&2; exit 4\n")
    with pytest.raises(ClockError, match="Insufficient Permissions"), fixed(settings_for("cuda", 1200, ["0"])):
        pass


@pytest.mark.parametrize(("device_type", "words"), [("cpu", "governor"), ("xpu", "no frequency limits")])
def test_a_device_without_such_a_switch_is_one_sentence(tmp_path, device_type, words):
    with pytest.raises(ClockError, match=words):
        settings_for(device_type, 1200, ["0"], tmp_path)
