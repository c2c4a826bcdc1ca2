"""The doctor: the host is well; what an Intel GPU lacks has a sentence each; a probe may die or hang."""

import os
import subprocess
import sys

import pytest

from fixtures.doctor import device, host, probe, steps
from fixtures.doctor.steps import Found, Problem, Step, run, settings
from suites.meta.harness.inner import ROOT
from suites.meta.harness.software_xpu import MAX_1550, interpreter


def doctor(*words, python=sys.executable, **environment):
    """(exit status, {title: line}, all of the output) of a doctor of its own."""
    command = [python, "-m", "fixtures.doctor", *words]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=400, check=False)
    lines = {line[6:20].strip(): line for line in done.stdout.splitlines() if line[:6] in ("ok    ", "FAIL  ")}
    return done.returncode, lines, done.stdout + done.stderr


def titles(device_type):
    return {step.title for step in steps.steps(device_type)}


@pytest.mark.nightly
def test_on_the_host_all_steps_are_well():
    status, lines, output = doctor("--device-type", "cpu")
    assert status == 0, output
    assert {*lines} == titles("cpu")
    assert all(line.startswith("ok  ") for line in lines.values()), output


@pytest.mark.nightly
def test_on_a_software_xpu_all_is_well_but_what_only_a_card_has(tmp_path):
    """A stand-in (suites/meta/harness/software_xpu): it has no driver, no device nodes and no tracer."""
    status, lines, output = doctor(python=interpreter(tmp_path / "python", cards=(MAX_1550,) * 2))
    missing = {"driver", "device nodes", "profiler"}
    assert {title for title, line in lines.items() if line.startswith("FAIL")} == missing, output
    assert {*lines} == titles("xpu")
    assert status == 1


@pytest.mark.nightly
def test_on_the_host_arithmetic_and_fork_are_well():
    status, lines, output = doctor("--device-type", "cpu", "--steps", "device,arithmetic,fork,profiler")
    assert status == 0, output
    assert len(lines) == 4


@pytest.fixture(scope="module")
def without_gpu():
    secret = "a-very-secret-token"
    return doctor(HF_TOKEN=secret, MY_PASSWORD=secret, CCL_LOG=f"x{secret}", ZE_AFFINITY_MASK="7"), secret


@pytest.mark.skipif(os.path.exists("/dev/dri"), reason="this machine may have an Intel GPU")
def test_without_an_intel_gpu_every_missing_part_has_its_sentence(without_gpu):
    (status, lines, output), _ = without_gpu
    wanted = {
        "driver": "(libze_loader.so.1) is not there; install Intel's compute runtime and Level Zero",
        "device nodes": "no Intel GPU has a render node in /dev/dri; load the kernel module xe or i915",
        "packages": "; install the stack of Intel GPUs with `make .venv-xpu`",
        "torch sees it": "is no build for Intel GPUs; install the stack of Intel GPUs with `make .venv-xpu`",
    }
    assert status == 1
    assert {*lines} == titles("xpu"), output
    for title, text in wanted.items():
        assert lines[title].startswith("FAIL") and text in lines[title], output  # noqa: PT018
    for title in ("arithmetic", "fork", "profiler", "memory", "collectives", "IPEX imports", "platform"):
        assert "not tried: it needs 'torch sees it'" in lines[title]


def test_its_output_has_no_secret_and_no_home_folder(without_gpu):
    (_, _, output), secret = without_gpu
    assert secret not in output
    assert "environment: CCL_LOG=x[redacted]" in output
    assert "environment: ZE_AFFINITY_MASK=7" in output
    assert os.path.expanduser("~") not in output.replace(str(ROOT), "")


# -- planted ----


STEP = Step("driver", "driver", 1.0, ("xpu",))


def test_a_probe_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(steps, "PROBE", ("-c", "import time; print('in the driver', flush=True); time.sleep(60)"))
    found = run(STEP, "xpu", [])
    assert not found.good
    assert "no answer within 1 s, so it was ended; it printed last: in the driver" in found.text


def test_a_probe_that_dies_is_reported_with_how(monkeypatch):
    monkeypatch.setattr(steps, "PROBE", ("-c", "import os; print('last', flush=True); os.kill(os.getpid(), 11)"))
    found = run(Step("driver", "driver", 30.0, ("xpu",)), "xpu", [])
    assert "no answer, ended by SIGSEGV; it printed last: last" in found.text


def test_a_step_that_others_need_is_named_where_it_failed():
    found = run(Step("memory", "memory", 1.0, ("xpu",), needs=("device",)), "xpu", ["device"])
    assert str(found) == "FAIL  memory         not tried: it needs 'torch sees it'; repair that first"


def test_a_line_has_no_secret(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    assert "hunter2" not in str(Found(STEP, False, "with hunter2hunter2", "see hunter2hunter2"))


@pytest.mark.parametrize("module", ["diffusers", "lm_eval", "intel_extension_for_pytorch", "six", "pkg_resources"])
def test_a_missing_package_is_named(monkeypatch, module):
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None if name == module else object())
    names = {**host.STACK, **host.OPTIMISED, **host.UNDECLARED, **host.ON_GPU}
    with pytest.raises(Problem, match=f"not installed: {names[module]}$"):
        host.packages("xpu")


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ({"torch": "2.8.0+xpu", "intel-extension-for-pytorch": "2.8.0"}, "no build for Intel GPUs: intel-ext"),
        ({"torch": "2.8.0", "intel-extension-for-pytorch": "2.8.10+xpu"}, "no build for Intel GPUs: torch 2.8.0$"),
        ({"transformers": "5.0.0"}, "does not work with transformers 5.0.0"),
    ],
)
def test_packages_that_do_not_belong_together_are_named(monkeypatch, versions, text):
    sound = {"torch": "2.8.0+xpu", "intel-extension-for-pytorch": "2.8.10+xpu", "transformers": "4.51.3"}
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(host.metadata, "version", lambda name: (sound | versions).get(name, "1"))
    with pytest.raises(Problem, match=text):
        host.packages("xpu")


class Loader:
    """Level Zero's loader without a driver behind it."""

    def zeInit(self, flags):
        return 0x78000001


def test_a_loader_without_a_driver_is_reported_with_its_code(monkeypatch):
    monkeypatch.setattr(host.ctypes, "CDLL", lambda name: Loader())
    with pytest.raises(Problem, match=r"finds no driver that works \(zeInit gives 0x78000001\)"):
        host.driver("xpu")


def test_a_node_that_may_not_be_opened_names_the_group(monkeypatch, tmp_path):
    node = tmp_path / "renderD128"
    node.touch()
    monkeypatch.setattr(host, "_is_wsl", lambda: False)
    monkeypatch.setattr(host.Path, "glob", lambda self, pattern: [node / "device" / "vendor"])
    monkeypatch.setattr(host.Path, "read_text", lambda self, **_: "0x8086\n")
    monkeypatch.setattr(host.os, "access", lambda path, mode: False)
    with pytest.raises(Problem, match=r"/dev/dri/renderD128 may not be opened") as caught:
        host.access("xpu")
    assert "add the user to the group" in caught.value.hint


def test_a_full_disk_is_named(monkeypatch):
    monkeypatch.setitem(settings()["disk"], "gibibytes", 10**9)
    with pytest.raises(Problem, match=r"GiB are free for .*, 1000000000 are needed"):
        host.disk("cpu")


def test_arithmetic_that_is_off_is_found(monkeypatch):
    monkeypatch.setitem(settings()["arithmetic"]["errors"], "bfloat16", 1e-9)
    with pytest.raises(Problem, match=r"a matrix product in bfloat16 is off by .*, 1e-09 at most"):
        device.arithmetic("cpu")


def test_what_the_stack_raises_is_an_answer():
    assert not probe.answer("arithmetic", "xpu")["good"]
    assert "xpu" in probe.answer("memory", "xpu")["text"].lower()


def test_a_device_of_no_platform_is_named(monkeypatch):
    class Properties:
        device_id = 0xE223

    class Runtime:
        get_device_properties = staticmethod(lambda index: Properties())
        get_device_name = staticmethod(lambda index: "Intel(R) Arc(TM) Pro B70 Graphics")
        device_count = staticmethod(lambda: 1)

    monkeypatch.setattr(device, "_runtime", lambda device_type: Runtime)
    with pytest.raises(Problem, match=r"'Intel\(R\) Arc\(TM\) Pro B70 Graphics' \(PCI id 0xe223\) is of no platform"):
        device.platform("xpu")
    Properties.device_id = 0xE211
    assert device.platform("xpu").startswith("b60: 6 claimed cells")
    assert device.collectives("xpu") == "one device: sharded cells cannot run here"
