"""New rows and bad data: a family member is one row, and every fault is reported in one line with its hint."""

import re
import time
import tomllib

import pytest

from fixtures.matrix import MatrixError, load_matrix
from fixtures.matrix.loader import FOLDER

CODELLAMA = """
[models.codellama-7b]
like = "llama-2-7b"
hub_id = "codellama/CodeLlama-7b-hf"
gated = false
geometry = { vocabulary = 32016, positions = 16384, rope_theta = 1e6 }
"""


@pytest.fixture
def folder(matrix_folder):
    return matrix_folder


def edit(folder, file, old, new):
    text = (folder / file).read_text()
    assert old in text, f"{old!r} no longer stands in {file}: this test would spoil nothing"
    (folder / file).write_text(text.replace(old, new, 1))


def test_a_family_member_is_one_row(folder):
    (folder / "models.toml").write_text((folder / "models.toml").read_text() + CODELLAMA)
    matrix = load_matrix(folder)
    model = matrix.model("codellama-7b")
    assert (model.family, model.architecture, model.representative) == ("llama2", "LlamaForCausalLM", False)
    assert (model.geometry.vocabulary, model.geometry.layers) == (32016, 32)
    found = {c.id: c.sources for c in matrix.all_cells() if c.model is model}
    note = "Validated Models, note on other models of the same family"
    assert found["codellama-7b-int4-max1100-single"] == (note,)
    assert "codellama-7b-bf16-cpu-autotp" in found
    assert not any("b580" in id for id in found), "the footnote verifies another model"
    assert len(matrix.specified) == 24


def test_a_contradiction_goes_when_its_cause_goes(folder):
    edit(
        folder,
        "claims.toml",
        'models = ["llama-2-7b", "llama-3-8b",',
        'models = ["mistral-7b", "llama-2-7b",',
    )
    edit(folder, "models.toml", 'min_transformers = "4.51.0"', 'min_transformers = "4.48.0"')
    found = {c.id for c in load_matrix(folder).contradictions}
    assert "core-ultra-mistral-omitted" not in found
    assert "transformers-version-rows" not in found
    assert "core-ultra-llama3-omitted" in found


def test_the_list_naming_an_unticked_model_is_a_contradiction(folder):
    edit(folder, "claims.toml", 'models = ["llama-2-7b", "llama-3-8b",', 'models = ["opt-6.7b", "llama-2-7b",')
    found = {c.id: c for c in load_matrix(folder).contradictions}
    assert found["core-ultra-opt-unticked"].models == ("opt-6.7b",)


def test_ten_thousand_cells_expand_at_once(folder):
    rows = "".join(f'[models.copy-{n}]\nlike = "llama-2-7b"\nhub_id = "copies/{n}"\n' for n in range(1300))
    (folder / "models.toml").write_text((folder / "models.toml").read_text() + rows)
    matrix = load_matrix(folder)
    start = time.process_time()
    cells = matrix.all_cells()
    ids = {c.id for c in cells}
    spent = time.process_time() - start
    assert len(ids) == len(cells) >= 10_000
    # Takes about 0.05 s of CPU time; the bound only has to catch work that grows with the square.
    assert spent < 2.0, f"{len(cells)} cells took {spent:.2f} s of CPU time"


M, A, P, C = "models.toml", "architectures.toml", "platforms.toml", "claims.toml"
OPT_ROW = 'models = ["opt-6.7b", "opt-30b"]'
BAD = {
    "unknown key": (M, "gated = true", "gatd = true", ["[models.llama-2-7b]", "'gatd'", "'gated'"]),
    "no geometry": (
        M,
        "\n[models.mistral-7b.geometry]",
        "\n[models.spare]",
        ["[models.mistral-7b] has no geometry", "add a [models.mistral-7b.geometry] table"],
    ),
    "missing key": (M, "layers = 32", "", ["[models.llama-2-7b.geometry]", "no layers", "config.json"]),
    "wrong type": (M, "layers = 32", "layers = '32'", ["layers = '32'", "a whole number above 0"]),
    "flag for number": (M, "layers = 32", "layers = true", ["layers = True", "a whole number above 0"]),
    "zero": (M, "hidden = 4096", "hidden = 0", ["hidden = 0", "above 0"]),
    "not finite": (M, "rope_theta = 1e4", "rope_theta = nan", ["rope_theta = nan", "finite"]),
    "malformed": (M, "layers = 32", "layers = = 32", ["malformed TOML", "line "]),
    "twice": (M, "[models.llama-2-13b]", "[models.llama-2-7b]", ["malformed TOML", "line ", "stand once"]),
    "unknown family": (M, 'family = "llama2"', 'family = "lama2"', ["family 'lama2'", "'llama2'"]),
    "unknown class": (M, "LlamaForCausalLM", "LamaForCausalLM", ["'LamaForCausalLM'", "'LlamaForCausalLM'"]),
    "new family": (M, 'family = "llama2"', 'family = "neox"', ["'neox'", "or add neox = ... to [families]"]),
    "new class": (
        M,
        "LlamaForCausalLM",
        "GPTNeoXForCausalLM",
        ["[models.llama-2-7b]", "or add [architectures.GPTNeoXForCausalLM] to architectures.toml"],
    ),
    "no optimised": (
        A,
        '[architectures.LlamaForCausalLM.optimised]\ncpu = ["_IPEXDecoderLayerCPU"]\nxpu = ["IPEXLLAMABlock"]\n',
        "",
        ["[architectures.LlamaForCausalLM] has no optimised", "(a table: device type -> class names)"],
    ),
    "unknown like": (
        M,
        '13b]\nlike = "llama-2-7b"',
        '13b]\nlike = "llama-2-7"',
        ["'llama-2-7'", "'llama-2-7b'"],
    ),
    "kv heads": (M, "kv_heads = 32", "kv_heads = 5", ["32 heads for 5 kv_heads", "multiple"]),
    "head_dim": (M, "head_dim = 96", "head_dim = 90", ["32 heads of head_dim 90", "heads * head_dim"]),
    "rotary": (M, "rotary_dims = 128", "rotary_dims = 130", ["rotary_dims = 130", "up to head_dim"]),
    "activation": (
        M,
        'activation = "silu"',
        'activation = "silo"',
        ["[models.llama-2-7b.geometry]", "'silo'", "'silu'"],
    ),
    "longrope": (M, "    1.1, 1.1,", "    1.1,", ["47 numbers in short_factor", "48"]),
    "revision": (M, 'revision = "a56c', 'revision = "56c', ["revision =", "40 hexadecimal"]),
    "version": (M, '"4.31.0"', '"newest"', ["min_transformers = 'newest'", "'4.31.0'"]),
    "representatives": (
        M,
        'hub_id = "facebook/opt-30b"',
        'hub_id = "facebook/opt-30b"\nrepresentative = true',
        ["[models.opt-30b]", "second representative of 'opt' beside 'opt-6.7b'"],
    ),
    "unquoted dot": (M, '[models."opt-6.7b"]', "[models.opt-6.7b]", ["'7b'", "quoted"]),
    "upper case": (M, "[models.opt-30b]", "[models.OPT-30b]", ["'OPT-30b'", "lower case"]),
    "schema": (M, "schema = 1", "schema = 9", ["schema = 9", "schema = 1"]),
    "top level": (M, "[families]", "[familes]", ["'familes'", "'families'"]),
    "config field": (A, 'layers = "num', 'layer = "num', ["LlamaForCausalLM.config]", "'layer'", "'layers'"]),
    "mechanism": (A, '"rope", "mask"', '"roap", "mask"', ["'roap'", "'rope'"]),
    "no optimised class": (
        A,
        '[architectures.GPTJForCausalLM.optimised]\ncpu = ["_IPEXDecoderLayerCPU"]\n',
        "[architectures.GPTJForCausalLM.optimised]\n",
        ["[architectures.GPTJForCausalLM.optimised] names no class for cpu", "cells", "add cpu = [...]"],
    ),
    "stock class as optimised": (
        A,
        '[architectures.GPTJForCausalLM.optimised]\ncpu = ["_IPEXDecoderLayerCPU"]',
        '[architectures.GPTJForCausalLM.optimised]\ncpu = ["GPTJBlock"]',
        ["[architectures.GPTJForCausalLM.optimised] names 'GPTJBlock' for cpu", "stock decoder_layer"],
    ),
    "device type": (P, 'device_type = "cuda"', 'device_type = "gpu"', ["[platforms.cuda]", "'gpu'"]),
    "device name": (P, "'Arc\\(TM\\) B580'", "'Arc\\(TM B580('", ["[platforms.b580]", "regular expression"]),
    "device id": (P, '["0xe20c"]', '["e20c"]', ["[platforms.b570]", "device id 'e20c'", "'0x64a0'"]),
    "device id twice": (P, '["0xe20c"]', '["0xe20b"]', ["[platforms.b570]", "'0xe20b' of 'b580'", "one platform"]),
    "gate": (C, 'classes = "llama|QWen|Phi3"', 'classes = "llama|("', ["[[gates]]", "classes", "regular expression"]),
    "marker clash": (P, 'single = "', 'cpu = "', ["[modes] has the key 'cpu'", "[platforms]"]),
    "claimed precision": (C, '"bf16", "fp16"]', '"bf61", "fp16"]', ["host-single", "'bf61'", "'bf16'"]),
    "claimed mode": (C, 'modes = ["autotp"]', 'modes = ["autopt"]', ["run-autotp", "'autopt'", "'autotp'"]),
    "claimed platform": (C, 'platforms = ["cuda"]', 'platforms = ["cuba"]', ["'cuba'", "'cuda'"]),
    "claimed model": (C, '["smollm2-135m"]', '["smollm-135m"]', ["'smollm-135m'", "'smollm2-135m'"]),
    "claim twice": (C, 'id = "host-int4"', 'id = "host-single"', ["host-single", "table above it"]),
    "row of strangers": (
        C,
        OPT_ROW,
        'models = ["opt-30b", "bloom"]',
        ["'bloom' of the family 'bloom'", "row"],
    ),
    "row twice": (C, 'family = "bloom"', 'family = "opt"', ["[[rows]] opt", "family"]),
    "tick": (C, 'ticks = ["fp16", "max"]', 'ticks = ["fp16", "maxx"]', ["'maxx'", "'max'"]),
    "footnote": (C, '{ b580 = "3" }', '{ b580 = "4" }', ["[[rows]] phi3", "footnote '4'"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_reported_in_one_line(folder, case):
    file, old, new, said = BAD[case]
    edit(folder, file, old, new)
    with pytest.raises(MatrixError) as caught:
        load_matrix(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message, f"no hint in: {message}"
    for part in (file, *said):
        assert part in message, f"{part!r} is missing from: {message}"


def test_a_missing_file_and_an_unreadable_one_are_reported(folder):
    (folder / P).unlink()
    with pytest.raises(MatrixError, match=r"platforms.toml: there is no such file; "):
        load_matrix(folder)
    (folder / P).write_bytes(b"schema = 1 # \xff")
    with pytest.raises(MatrixError, match=r"line 1 is not UTF-8; "):
        load_matrix(folder)


def test_the_shipped_folder_is_named_from_the_root():
    with pytest.raises(MatrixError, match=r"^fixtures/matrix/nowhere/platforms.toml: there is no such file"):
        load_matrix(FOLDER / "nowhere")


def test_asking_for_an_unknown_platform_or_model_suggests_a_known_one():
    matrix = load_matrix()
    with pytest.raises(MatrixError, match=r"no platform 'max1150'; did you mean 'max1(55|10)0'"):
        matrix.cells(["max1150"])
    with pytest.raises(MatrixError, match=r"no model 'llama2-7b'; did you mean 'llama-2-7b'"):
        matrix.model("llama2-7b")


def test_ticks_that_the_code_does_not_optimise_without_xmx_are_contradictions(folder):
    found = {c.id: c for c in load_matrix(folder).contradictions if c.id.endswith("-not-optimised")}
    assert {id: c.models for id, c in found.items()} == {
        "core-ultra-mistral-not-optimised": ("mistral-7b",),
        "core-ultra-gptj-not-optimised": ("gpt-j-6b",),
    }
    assert all(c.platforms == ("core-ultra",) and "line 2322" in c.sources[1] for c in found.values())
    edit(folder, "platforms.toml", "xmx = false\nblock_2d = false", "xmx = true\nblock_2d = true")
    assert not [c for c in load_matrix(folder).contradictions if c.id.endswith("-not-optimised")]


def test_this_project_claims_nothing_that_the_code_leaves_unoptimised():
    claims = tomllib.loads((FOLDER / "claims.toml").read_text())
    by_device = {(gate["xmx"], gate["block_2d"]): gate["classes"] for gate in claims["gates"]}
    for cell in (c for c in load_matrix().all_cells(["ipex"]) if c.platform.own and c.platform.device_type == "xpu"):
        xmx = cell.platform.xmx or False  # where the devices of a platform differ, the one that can do less decides
        assert re.search(by_device[xmx, cell.platform.block_2d], cell.model.architecture, re.IGNORECASE), cell.id
