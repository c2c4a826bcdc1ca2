"""Small sound files of every kind the suite reads, for tests that spoil them."""

import json

import numpy as np

from fixtures.matrix import config_entries
from fixtures.results import machine_fingerprint
from fixtures.weights.inspection import INDEX
from fixtures.weights.reading import write_tensors


def lines(*records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


_RECORD = {
    "schema": 1,
    "nodeid": "suites/test_generation.py::test_generation[llama-2-7b-bf16-cpu-single]",
    "cell": "llama-2-7b-bf16-cpu-single",
    "suite": "generation",
    "verdict": "PASS",
    "lines": [{"check": "logits", "verdict": "PASS", "measured": "1.0", "allowed": "<= 1.2", "margin": "+16%"}],
    "waivers": [],
    "metrics": {"logits": [1.0, None, "of stock's error"]},
    "seconds": 2.5,
    "finished": "2026-01-02T03:04:05+00:00",
    "machine": machine_fingerprint().slug,
    "versions": {"torch": "2.8.0"},
}
IDENTITY = {
    "machine": machine_fingerprint().slug,
    "numerics": {"cpu": "amx"},
    "drivers": {"b580": "1.6.33276"},
    "python": "3.11.9",
    "versions": {"torch": "2.8.0"},
    "against": {},
    **dict.fromkeys(("commit", "sources", "matrix", "accepted"), "0123456789abcdef"),
    "options": {"--platform": "auto"},
}
_RUN = {"schema": 2, "run": "aa11", **IDENTITY}
_OPENING = {**_RUN, "kind": "run", "resumes": None, "started": "2026-01-02T03:00:00+00:00", "differs": []}
_STAGED = dict(suite="latency", platform="cpu", key="k", name="c", values={"x": [1.0, None, "s"]}, n=2)
_TEST = {**_RECORD, **_RUN, "kind": "test", "attempt": 1, "final": True, "staged": [_STAGED], "script_lines": [["a"]]}
JOURNAL = lines(
    _RECORD,  # of schema 1, and by itself
    _OPENING,
    {**_TEST, "code": {"revision": "0", "runs": True, "files": {}}},
    {**_TEST, "nodeid": "another", "final": False},
    {**_OPENING, "run": "bb22", "resumes": "aa11", "differs": ["torch 1 instead of 2"]},
    {**_TEST, "run": "bb22", "nodeid": "another", "attempt": 2},
)
SCOPES = b"""
[[waivers]]
id = "scoped"
suite = "generation"
cells = "llama-2-7b-*-cpu-single"
check = ["logits", "tokens"]
at_most = { logits = 1.5, tokens = 3 }
reason = "a defect of one driver"
evidence = "a line of a log"
platforms = ["cpu", "max*"]
drivers = ">=25.13,<26"
versions = { "transformers" = "==4.51.*", "torch" = ">=2.8" }
owner = "somebody"
until = 2026-01-10
"""
DOCUMENTS = lines(*({"text": f"The {word} sat on the mat"} for word in ("cat", "dog", "goat")))
RECORDS = lines(*({"document": n, "digest": "ab", "metrics": {"acc": 1.0}, "loglik": -0.5} for n in range(3)))
HOSTS = b"# two machines\nnode-1:2\nuser@node-2.example slots=2\n[fe80::1]:4\n"
CODE = {"modeling_x.py": "0" * 64, "configuration_x.py": "1" * 64}


def checkpoint(folder, model):
    """Write a whole checkpoint of two files to a folder, all its tensors small; {name: bytes} of its files."""
    config = {**config_entries(model), "model_type": model.arch.model_type, "torch_dtype": "float32"}
    tokenizer = {"add_bos_token": True, "model_max_length": 10**30, "tokenizer_class": "LlamaTokenizerFast"}
    special = {"0": {"content": "<unk>", "lstrip": False, "special": True}}
    files = {
        "config.json": config,
        "tokenizer_config.json": {**tokenizer, "added_tokens_decoder": special, "chat_template": "{{ a }}"},
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6},
        "tokenizer.json": {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}}},
    }
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    first = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float16)}
    second = {"b.weight": np.arange(4, dtype=np.int64)}
    where = {**dict.fromkeys(first, names[0]), **dict.fromkeys(second, names[1])}
    files[INDEX] = {"metadata": {"total_size": 60}, "weight_map": where}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    for name, tensors in zip(names, (first, second), strict=True):
        write_tensors(folder / name, tensors)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def quantised(folder):
    """Write a checkpoint of one INT4 linear to a folder; {name: bytes} of its files."""
    declared = {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True}
    (folder / "config.json").write_text(json.dumps({"quantization_config": declared}))
    tables = {"qweight": (16, 8), "scales": (2, 8), "qzeros": (2, 1)}
    write_tensors(folder / "model.safetensors", {f"a.{t}": np.zeros(shape, np.int32) for t, shape in tables.items()})
    return {path.name: path.read_bytes() for path in folder.iterdir()}
