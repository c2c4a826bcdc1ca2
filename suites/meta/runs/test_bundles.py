"""Real runs write bundles that hold, without torch; and a bundle of a thousand tests takes seconds."""

import subprocess
import sys
import time

import pytest

from fixtures.matrix import load_matrix
from fixtures.verify import bundle, check, signing
from suites.meta.harness import bundles
from suites.meta.harness.inner import ROOT, nodes, run_suite
from suites.meta.harness.on_software_xpu import run_on

pytestmark = pytest.mark.nightly
MOST = 10.0  # CPU seconds for a thousand tests
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from fixtures.verify.__main__ import main; sys.exit(main())"


def test_a_real_run_is_bundled_and_every_verdict_is_derived_anew(tmp_path):
    private, public = bundles.keys(tmp_path)
    made = tmp_path / "run.bundle"
    suites = [f"suites/test_{name}.py" for name in ("generation", "generate", "dispatch", "latency", "quantization")]
    suites += ["suites/test_distributed.py", "suites/test_accuracy.py"]
    cells = "(opt-6.7b and (fp32 or bf16)) or (llama-2-7b and int4 and single)"
    run = run_suite(
        tmp_path, *suites, "-k", f"({cells}) and not (mpirun or torchrun or tp_deepspeed)", f"--bundle={made}",
        f"--bundle-key={private}", "--benchmark-compare", timeout=1200,
    )  # fmt: skip
    assert f"bundle {made}" in run.output
    derived_anew(made, run, signing.public_key(public))
    command = [sys.executable, "-c", WITHOUT_TORCH, str(made), "--key", str(public)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def derived_anew(made, run, *keys):
    """The bundle of a run holds, and every verdict that was measured follows from its measurements."""
    found = check.verify(made, keys)
    assert not found.problems, "\n".join(found.problems)
    assert found.counts.total() == len(run.tests)
    assert found.replayed == found.counts.total() - found.counts["UNSUPPORTED"]


def test_scores_and_ranks_of_launchers_are_derived_anew(tmp_path):
    made = tmp_path / "run.bundle"
    tests = nodes("accuracy", ["smollm2-135m-fp32-cpu-single"])
    for launcher in ("mpirun", "torchrun"):
        tests += nodes(f"tp_{launcher}", ["llama-2-7b-bf16-cpu-autotp"], "distributed")
    run = run_suite(tmp_path, *tests, "--limit=64", f"--bundle={made}", timeout=1200)
    assert len(run.tests) == 3, run.output
    derived_anew(made, run)


def test_checkpoints_of_other_tools_are_derived_anew(tmp_path):
    """On the software XPU: no host runs them."""
    made = tmp_path / "run.bundle"
    run, _ = run_on(tmp_path, [("int4_checkpoints", "llama-2-7b-int4-max1550-single")], f"--bundle={made}")
    assert len(run.tests) == 1, run.output
    derived_anew(made, run)


def test_a_thousand_tests_are_bundled_and_verified_in_seconds(tmp_path, monkeypatch):
    cells = {cell.id: cell for cell in load_matrix().all_cells()}
    monkeypatch.setattr(bundles, "cells", lambda: cells)
    run = bundles.Run(tmp_path, ROOT / "baselines")
    for cell_id in cells:
        run.test("generation", cell_id, bundles.generated())
        run.test("latency", cell_id, bundles.timed)
    for cell_id in [*cells][: 1000 - len(run.tests)]:
        run.test("dispatch", cell_id, bundles.traced)
    journal = run.close()
    assert journal.stat().st_size < 50 * 2**20
    start = time.process_time()
    bundle.write(tmp_path / "a.bundle", journal)
    written = time.process_time()
    found = check.verify(tmp_path / "a.bundle")
    verified = time.process_time()
    assert found.replayed == 1000, found.problems[:3]
    assert (tmp_path / "a.bundle").stat().st_size < 10 * 2**20
    sizes = journal.stat().st_size, (tmp_path / "a.bundle").stat().st_size
    print(
        f"{sizes} bytes of journal and bundle; {written - start:.1f} s to write, {verified - written:.1f} s to verify"
    )
    assert written - start < MOST
    assert verified - written < MOST
