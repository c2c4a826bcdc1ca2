"""A journal with evidence, and bundles of it: planted measurements through the real checks, verdicts and journal."""

import contextlib
import dataclasses
import json
import types
import zlib

import numpy as np
import pytest

from fixtures.checks.dispatch import check_dispatch
from fixtures.checks.evidence import recording
from fixtures.checks.generation import accepted_metrics, check_generation
from fixtures.checks.latency import check_latency, metrics_of
from fixtures.checks.tolerances import tolerances
from fixtures.contract.suites import questions
from fixtures.matrix import load_matrix
from fixtures.measure.dispatch import Dispatch
from fixtures.measure.generation import Generation
from fixtures.measure.latency import Grid, Latency
from fixtures.measure.reference import ReferenceLogits
from fixtures.plugin.outcome import Totals, Verdict
from fixtures.results import Here, Journal, load_waivers
from fixtures.results.accepted import Accepted, trace_of_record
from fixtures.results.runs import sources
from fixtures.results.traces import TraceFiles
from fixtures.verify import archive, bundle, manifest, signing
from fixtures.worker.environment import ROOT
from fixtures.worker.termination import RecipeError
from suites.meta.harness.journals import ORIGIN

PASSES, WAIVED = "llama-2-7b-fp32-cpu-single", "phi-3-mini-4k-fp32-cpu-single"
FAILS, UNSUPPORTED, TRACED = "qwen2-7b-fp32-cpu-single", "llama-2-7b-fp16-cpu-single", "llama-2-7b-bf16-cpu-single"
STATE = {"cores": [0, 1], "self": "1", "swap_ins": None, "governors": None, "throttles": None, "frequencies": None}
STEPS, VOCABULARY = 33, 64


def cells():
    """{id: cell} of the whole matrix."""
    return {cell.id: cell for cell in load_matrix().every_cell()}


def node(suite, cell_id):
    return questions()[suite].nodeid(cells()[cell_id])


def generation(cell, past_window=0.9):
    """A Generation whose errors are 0.9 times stock's own, and `past_window` times on the one prompt past a window."""
    rng = np.random.default_rng(zlib.crc32(cell.id.encode()))
    exact = rng.normal(size=(13, STEPS, VOCABULARY))
    stock = exact * (1 + 1e-6 * rng.normal(size=exact.shape))
    factors = np.array([0.9] * 12 + [past_window])[:, None, None]
    expected = cell.model.arch.optimised_classes("cpu")
    proof = {"classes": {expected[0]: cell.model.geometry.layers} if expected else {}, "dtype": "float32"}
    proof |= {"devices": [cell.platform.device_type], "int4_linears": 0, "plain_linears": []}
    groups = {"logits": [*range(6)], "static_cache": [*range(6, 12)], "left_padding": [], "sliding_window": [12]}
    return Generation(
        cell,
        cell.model.geometry,
        groups=groups,
        proofs=[proof],
        reference_logits=ReferenceLogits(exact, stock, exact, stock, exact * (1 + 1e-6)),
        logits=exact + (stock - exact) * factors,
        text="a text",
        beam_steps=8,
        beam_logprob=np.full(8, -3.0),
        best_logprob=np.full(8, -3.0),
    )


def latency(cell):
    """A Latency of three rounds of four tokens."""
    states = [
        STATE | {"monotonic": at, "wall": at, "cpu": None, "processes": {"1": {"cpu": 0.0, "threads": 1, "start": 1}}}
        for at in (0.0, 10.0)
    ]
    rounds = [{"total": 0.4, "tokens": [0.1 + 0.01 * number, 0.2, 0.3, 0.4 + 0.01 * number]} for number in range(3)]
    grid = Grid(4, 1, 32, 4, 3, 1)
    return Latency(cell, grid, rounds=rounds, stock_rounds=rounds, host_state=states, peak_bytes=2**20)


class Run:
    """Writes a journal as a run on `machine` does, with the waivers and accepted values of a folder of baselines."""

    def __init__(self, folder, baselines, machine="a-cpu", isa="amx"):
        self.isa = isa
        self.journal, self.baselines = Journal(folder / "journal.jsonl"), baselines
        self.totals, self.tests, self.held = Totals(), [], []
        options = {"--platform": "auto", "--worker-python": "/opt/x/python"}
        self.identity = ORIGIN | {"machine": machine, "numerics": {"cpu": isa}, "sources": sources()}
        self.identity["options"] = options
        matrix = load_matrix()
        platforms = tuple(platform.name for platform in matrix.platforms)
        here = Here(isa, platforms, engines=matrix.engines_in_ids)
        self.waivers = load_waivers(baselines / "waivers.toml", here)

    def test(self, suite, cell_id, act, baseline=True):
        """One test: `act(cell, verdict)` measures, checks and ends it."""
        cell, nodeid = cells()[cell_id], node(suite, cell_id)
        item = types.SimpleNamespace(
            nodeid=nodeid, name=suite, originalname=f"test_{suite}", user_properties=[], session=None
        )
        item.add_report_section = lambda *_: None
        log = types.SimpleNamespace(append=self.held.append)
        verdict = Verdict(item, cell, self.waivers, self.totals, log, {"run": "aa11", **self.identity})
        ends = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception)
        with recording() as verdict.recording, contextlib.suppress(*ends):
            act(cell, verdict)
        self.tests.append(nodeid)

    def close(self):
        fingerprint = {"cpu": "a CPU", "cores": 2, "memory_gib": 16, "isa": self.isa, "devices": []}
        opening = {"expected": len(self.tests), "tests": self.tests, "started": "2026-11-01T00:00:00+00:00"}
        opening |= {"resumes": None, "differs": [], "fingerprint": fingerprint, **self.identity}
        self.journal.append({"kind": "run", "run": "aa11", **opening})
        for record in self.held:
            self.journal.append(record | {"seconds": 1.0, "finished": "2026-11-01T00:00:01+00:00"})
        counts = {"verdicts": dict(self.totals.counts()), "missing": 0}
        self.journal.append({"kind": "end", "run": "aa11", "status": 1, **counts})
        self.journal.close()
        return self.journal.path


def generated(**changes):
    """What ends a test of generation with a planted measurement."""

    def act(cell, verdict):
        measured = dataclasses.replace(generation(cell), **changes.get("fields", {}))
        if "past_window" in changes:
            measured = generation(cell, changes["past_window"])
        lines = check_generation(measured, tolerances(), Accepted(None, True))
        verdict(lines, accepted_metrics(measured)[0])

    return act


def timed(cell, verdict):
    measured = latency(cell)
    metrics = metrics_of(measured)
    verdict(check_latency(measured, metrics, False, Accepted(None, True), tolerances()), metrics)


def traced(cell, verdict):
    """The trace that is accepted of a cell, where it has one, else another's that is compared with nothing."""
    files = TraceFiles(ROOT / "baselines")
    accepted = [trace_of_record(record) for record in files.elsewhere("cpu", cell.id)]
    trace = accepted[0] if accepted else trace_of_record(files.elsewhere("cpu", TRACED)[0])
    verdict(check_dispatch(Dispatch(cell, trace), accepted[0] if accepted else None))


def journal(folder, baselines, **machine):
    """A journal of six tests: three PASS, one WAIVED, one FAIL, one UNSUPPORTED."""
    run = Run(folder, baselines, **machine)
    run.test("generation", PASSES, generated())
    run.test("generation", WAIVED, generated(past_window=4900.0))
    broken = dict(logits=None, error=RecipeError("ValueError", "no such thing"))
    run.test("generation", FAILS, generated(fields=broken))
    run.test("generation", UNSUPPORTED, lambda cell, verdict: verdict.unsupported("this CPU has no fp16"))
    run.test("dispatch", TRACED, traced)
    run.test("latency", PASSES, timed)
    return run.close()


def made(path, files, key=None):
    """Write a bundle of these files, with manifests that fit them, signed or not."""
    files = {name: content for name, content in files.items() if name not in manifest.TYPES}
    files |= {name: signing.sealed(text, key) for name, text in manifest.statements(files).items()}
    path.write_bytes(archive.pack(files))
    return path


def with_records(files, change):
    """The files of a bundle with `change(records)` in its journal; the environment follows."""
    records = [json.loads(line) for line in files[bundle.JOURNAL].splitlines()]
    records = change(records) or records
    changed = "".join(f"{json.dumps(record)}\n" for record in records).encode("ascii")
    return {**files, bundle.JOURNAL: changed, bundle.ENVIRONMENT: bundle.environment(changed)}


def keys(folder, name="owner"):
    """(private, public) files of a new Ed25519 key."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public
