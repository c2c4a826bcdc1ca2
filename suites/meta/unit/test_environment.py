"""What of the environment reaches workers, by the list in environment.toml, and what a record says of it."""

from pathlib import Path

import pytest

from fixtures.matrix import MatrixError
from fixtures.worker import environment
from fixtures.worker.environment import base_environment, decides, for_the_record, passed_on, variables

WANTED = {
    "SYCL_PI_LEVEL_ZERO_USE_IMMEDIATE_COMMANDLISTS": "2",
    "UR_L0_USE_IMMEDIATE_COMMANDLISTS": "1",
    "ZE_AFFINITY_MASK": "0.1",
    "ZES_ENABLE_SYSMAN": "1",
    "ONEAPI_DEVICE_SELECTOR": "level_zero:*",
    "IPEX_COMPUTE_ENG": "4",
    "USE_W4A8_COMPUTE": "1",
    "USE_XETLA": "OFF",
    "OCL_ICD_FILENAMES": "libigdrcl.so",
    "LD_LIBRARY_PATH": "/opt/intel/oneapi/lib",
    "LIBRARY_PATH": "/opt/intel/oneapi/lib",
    "TBBROOT": "/opt/intel/oneapi/tbb",
    "MKLROOT": "/opt/intel/oneapi/mkl",
    "CCL_ROOT": "/opt/intel/oneapi/ccl",
    "FI_PROVIDER_PATH": "/opt/intel/oneapi/mpi/libfabric",
    "I_MPI_ROOT": "/opt/intel/oneapi/mpi",
}


@pytest.mark.parametrize("name", WANTED)
def test_what_an_intel_gpu_needs_reaches_workers(monkeypatch, name):
    monkeypatch.setenv(name, WANTED[name])
    assert base_environment()[name] == WANTED[name]


@pytest.mark.parametrize("name", ["TORCH_LLM_ALLREDUCE", "CPATH", "USE_XETLA_SRC", "LLM_ACC_TEST", "CCL_KVS_TOKEN"])
def test_what_is_not_listed_and_secrets_do_not(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert name not in base_environment()
    assert name not in for_the_record()


def test_what_is_compiled_outlives_a_run_and_is_of_this_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("XPU_LLM_CTS_CACHE", str(tmp_path))
    here = Path(base_environment()["TORCHINDUCTOR_CACHE_DIR"])
    monkeypatch.setattr(environment, "cpu_flags", lambda: frozenset({"avx2"}))
    elsewhere = Path(base_environment()["TORCHINDUCTOR_CACHE_DIR"])
    assert here.parent == elsewhere.parent == tmp_path / "compiled"
    assert here != elsewhere


@pytest.mark.parametrize("broken", ["others may write", "a file is in its place", "no home"])
def test_what_others_could_write_is_never_run(monkeypatch, tmp_path, broken):
    monkeypatch.setenv("XPU_LLM_CTS_CACHE", str(tmp_path))
    folder = Path(base_environment()["TORCHINDUCTOR_CACHE_DIR"])
    assert folder.stat().st_mode & 0o777 == 0o700
    if broken == "others may write":
        folder.chmod(0o770)
    elif broken == "a file is in its place":
        folder.rmdir()
        folder.touch()
    else:
        monkeypatch.delenv("XPU_LLM_CTS_CACHE")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert "TORCHINDUCTOR_CACHE_DIR" not in base_environment()


def test_every_entry_says_what_reads_it():
    assert all(len(each.why) > 3 for each in variables())
    names = [each.name or each.prefix for each in variables()]
    assert len(set(names)) == len(names)


def test_devices_and_engines_decide_and_folders_do_not():
    assert all(decides(name) for name in ("ZE_AFFINITY_MASK", "UR_X", "USE_W4A8_COMPUTE", "CUDA_VISIBLE_DEVICES"))
    assert not any(decides(name) for name in ("HOME", "PATH", "HF_HOME", "MKLROOT", "CCL_KVS_TOKEN"))


def test_the_record_has_values_without_secrets_and_without_the_home_folder():
    environment = {
        "HOME": "/home/somebody",
        "LD_LIBRARY_PATH": "/home/somebody/lib:/opt/lib",
        "CCL_LOG": "user:hunter22@host",
        "MY_PASSWORD": "hunter22",
        "SYCL_CACHE_DIR": "https://user:pass@host/x",
        "UNLISTED": "1",
    }
    assert for_the_record(environment) == {
        "CCL_LOG": "user:[redacted]@host",
        "HOME": "~",
        "LD_LIBRARY_PATH": "~/lib:/opt/lib",
        "SYCL_CACHE_DIR": "https://[redacted]@host/x",
    }
    assert "MY_PASSWORD" not in passed_on(environment)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('nmae = "X"\nwhy = "typing error"', "unknown key 'nmae'; did you mean 'name'"),
        ('name = "X"', "has no why; add why"),
        ('why = "nothing"', "needs either a name or a prefix"),
    ],
)
def test_a_bad_entry_is_one_sentence(tmp_path, entry, message):
    path = tmp_path / "environment.toml"
    path.write_text(f"schema = 1\n[[variables]]\n{entry}\n")
    with pytest.raises(MatrixError, match=r"environment.toml: \[\[variables\]\] number 1 .*" + message):
        variables(path)
