"""The matrix: what it claims, where its sources disagree, how it expands, and its geometry."""

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fixtures.matrix import config_entries, load_matrix, render_matrix
from fixtures.matrix.loader import ACTIVATIONS
from suites.meta.harness.examples import add_examples

ROOT = Path(__file__).resolve().parents[3]

# Counted by hand in the specification's table: models of each row, in its order.
ROWS = {
    "llama2": 3,
    "llama3": 5,
    "phi3": 3,
    "mistral": 1,
    "gptj": 1,
    "qwen": 5,
    "opt": 2,
    "bloom": 2,
    "glm4": 1,
    "baichuan2": 1,
}
INT4_FAMILIES = {"llama2", "llama3", "phi3", "mistral", "gptj", "qwen"}
INT4_MODELS = 18  # 3 + 5 + 3 + 1 + 1 + 5
# (platform, precision, mode) -> cells. Max Series: all 24 models in FP16, single and distributed, and the
# 18 of INT4. Core Ultra: the six families with INT4, all of them ticked. B580: one model of each footnote, and the same
# for the cards that are this project's own rows. Lunar and Arrow Lake: the five models of the list for Core Ultra.
# Host: 24 models and the packaged one. CUDA: the 24.
CELLS = {
    ("max1550", "fp16", "single"): 24,
    ("max1550", "fp16", "autotp"): 24,
    ("max1550", "int4", "single"): INT4_MODELS,
    ("max1100", "fp16", "single"): 24,
    ("max1100", "fp16", "autotp"): 24,
    ("max1100", "int4", "single"): INT4_MODELS,
    ("core-ultra", "fp16", "single"): INT4_MODELS,
    ("core-ultra", "int4", "single"): INT4_MODELS,
    ("b580", "fp16", "single"): 3,
    ("b580", "int4", "single"): 3,
    **{(card, precision, "single"): 3 for card in ("b570", "b60", "b50", "a770") for precision in ("fp16", "int4")},
    **{(kind, precision, "single"): 5 for kind in ("lunar-lake", "arrow-lake") for precision in ("fp16", "int4")},
    ("cpu", "fp32", "single"): 25,
    ("cpu", "bf16", "single"): 25,
    ("cpu", "bf16", "autotp"): 25,
    ("cpu", "fp16", "single"): 25,
    ("cpu", "int4", "single"): INT4_MODELS + 1,
    ("cuda", "fp32", "single"): 24,
    ("cuda", "fp16", "single"): 24,
    ("cuda", "fp16", "autotp"): 24,
    ("cuda", "fp16", "tpplan"): 24,
}
CORE_ULTRA_LIST = {"llama-2-7b", "llama-3-8b", "qwen2-7b", "phi-3-mini-128k", "phi-3-mini-4k"}
XPU = ("max1550", "max1100", "core-ultra", "b580")


@pytest.fixture(scope="module", params=["shipped", "with the rows of docs/extend.md"])
def matrix(request, tmp_path_factory):
    """The shipped matrix, and one to which every example was added: counts hold whatever a reader adds."""
    if request.param == "shipped":
        return load_matrix()
    folder = tmp_path_factory.mktemp("matrix")
    add_examples(folder)
    extended = load_matrix(folder)
    assert {"codellama-7b", "pythia-6.9b"} <= {model.id for model in extended.models}
    assert extended.cells(["b70"])
    return extended


@pytest.fixture(scope="module")
def cells(matrix):
    return matrix.all_cells()


def counted(matrix, cells):
    """Cells of the models and the platforms that were counted by hand."""
    models = {model.id for model in matrix.specified} | {"smollm2-135m"}
    platforms = {platform for platform, _, _ in CELLS}
    return [cell for cell in cells if cell.model.id in models and cell.platform.name in platforms]


# ---------------------------------------------------------------- what is claimed


def test_the_table_has_the_models_of_the_specification(matrix):
    assert len(matrix.specified) == 24
    assert {row.family: len(row.models) for row in matrix.rows} == ROWS
    assert [row.family for row in matrix.rows] == list(ROWS)
    extra = {model.id for model in matrix.models} - {model.id for model in matrix.specified}
    assert extra >= {"smollm2-135m"}


def test_cells_are_those_counted_by_hand(matrix, cells):
    assert Counter((c.platform.name, c.precision, c.mode) for c in counted(matrix, cells)) == CELLS


def test_int4_is_claimed_where_ticked_and_nowhere_else(matrix, cells):
    cells = counted(matrix, cells)
    families = {c.model.family for c in cells if c.precision == "int4" and c.platform.name in XPU}
    assert families == INT4_FAMILIES
    assert {c.model.family for c in cells if c.precision == "int4"} == INT4_FAMILIES | {"smollm2"}


def test_distributed_fp16_of_the_specification_is_for_the_max_series(cells):
    distributed = [c for c in cells if c.mode == "autotp" and c.platform.device_type == "xpu"]
    assert {c.precision for c in distributed} == {"fp16"}
    assert {c.platform.name for c in distributed} == {"max1550", "max1100"}
    assert {c.sources for c in distributed} == {("Run Models table, row Distributed (autotp)",)}


def test_ranks_divide_the_heads_of_every_distributed_cell(cells):
    uneven = [c.id for c in cells if c.mode == "autotp" and c.model.geometry.heads % c.model.ranks]
    uneven += [c.id for c in cells if c.mode == "autotp" and c.model.geometry.kv_heads % c.model.ranks]
    # The packaged model's do not, by its size: the one cell that shows how AutoTP splits such a model.
    assert {*uneven} == {"smollm2-135m-bf16-cpu-autotp"}


def test_footnotes_leave_one_model_of_a_family_on_b580(matrix):
    b580 = matrix.cells(["b580"])
    assert {c.model.id for c in b580} == {"llama-2-7b", "llama-3-8b", "phi-3-mini-4k"}
    notes = {c.model.family: [s for s in c.sources if s.startswith("footnote")] for c in b580}
    assert notes == {"llama2": ["footnote 1"], "llama3": ["footnote 2"], "phi3": ["footnote 3"]}


def test_every_cell_names_all_of_its_sources(matrix):
    found = {c.id: c.sources for c in matrix.cells(["core-ultra"])}
    tick = "Validated Models table, row {}, columns FP16 and Core Ultra"
    run = "Run Models table, row Single instance"
    listed = (tick.format("Llama 2"), "Supported Platforms list, line 2", run)
    assert found["llama-2-7b-fp16-core-ultra-single"] == listed
    assert found["mistral-7b-fp16-core-ultra-single"] == (tick.format("Mistral"), run)
    by_list = {id for id, sources in found.items() if "Supported Platforms list, line 2" in sources}
    assert by_list == {f"{m}-{p}-core-ultra-single" for m in CORE_ULTRA_LIST for p in ("fp16", "int4")}


def test_one_representative_stands_for_each_family(matrix):
    chosen = Counter(model.family for model in matrix.specified if model.representative)
    assert chosen == dict.fromkeys({model.family for model in matrix.specified}, 1)


def test_remote_code_is_pinned_or_refused(matrix):
    remote = [model for model in matrix.models if model.remote_code]
    assert [model.id for model in remote] == ["baichuan2-13b"]
    assert all(model.revision and len(model.revision) == 40 for model in remote)
    assert all(model.revision is None for model in matrix.models if not model.remote_code)


# ---------------------------------------------------------------- where sources disagree


def test_contradictions_come_out_of_the_data(matrix):
    found = {c.id: c for c in matrix.contradictions}
    omitted = {f"core-ultra-{family}-omitted" for family in ("mistral", "gptj")}
    sizes = {f"core-ultra-{family}-sizes" for family in ("llama2", "llama3", "phi3", "qwen")}
    other = {
        "b580-not-listed",
        "transformers-version-stated-twice",
        "transformers-version-rows",
        "ranks-rows",
        "default-accuracy-task-stated-twice",
        "introduction-omits",
        "calibrated-int4-omits",
        "unset-compute-engine",
    }
    left_by_code = {f"core-ultra-{family}-not-optimised" for family in ("mistral", "gptj")}
    assert set(found) == omitted | sizes | left_by_code | other
    assert [c.id for c in matrix.contradictions if not c.computed] == ["unset-compute-engine"]
    assert found["core-ultra-mistral-omitted"].models == ("mistral-7b",)
    assert found["core-ultra-mistral-omitted"].platforms == ("core-ultra",)
    assert found["core-ultra-llama2-sizes"].models == ("llama-2-13b", "llama-2-70b")
    assert found["transformers-version-rows"].models == ("qwen3-4b", "qwen3-8b")
    assert "4.48.3" in found["transformers-version-stated-twice"].text
    assert "4.51.3" in found["transformers-version-stated-twice"].text
    assert all(len(c.sources) >= 1 and c.text for c in matrix.contradictions)


# ---------------------------------------------------------------- cells, ids, markers


def test_ids_are_unique_and_read_as_documented(cells):
    ids = [c.id for c in cells]
    assert len(set(ids)) == len(ids)
    assert "llama-2-7b-bf16-cpu-single" in ids
    assert "bloom-fp16-max1550-autotp" in ids


def test_cells_keep_one_order_whatever_is_asked_for(matrix, cells):
    models = [model.id for model in matrix.models]
    order = [list(matrix.markers).index(c.platform.name) for c in cells]
    assert order == sorted(order)
    host = matrix.cells(["cpu"])
    assert [models.index(c.model.id) for c in host] == sorted(models.index(c.model.id) for c in host)
    kinds = [(c.precision, c.mode) for c in host if c.model.id == "llama-2-7b"]
    expected = [
        ("fp32", "single"),
        ("bf16", "single"),
        ("bf16", "autotp"),
        ("fp16", "single"),
        ("int4", "single"),
    ]
    assert kinds == expected
    assert matrix.cells(["cuda", "max1550"]) == matrix.cells(["max1550", "cuda", "cuda"])


def test_every_marker_of_a_cell_is_registered(matrix):
    used = {marker for c in matrix.every_cell() for marker in c.markers} | {"representative"}
    used |= {model.family for model in matrix.models}  # of which nothing may be claimed yet
    assert used == set(matrix.markers)
    assert all(text and "\n" not in text for text in matrix.markers.values())


def test_sixteen_bits_on_the_host_need_a_cpu_flag(matrix):
    cpu = matrix.platform("cpu")
    needs = {c.precision: c.needs for c in matrix.cells(["cpu"])}
    assert needs.pop("fp16") == ("avx512_fp16", "amx_fp16")
    assert needs.pop("bf16") == ("avx512bw", "avx_ne_convert")
    assert set(needs.values()) == {()}
    assert cpu.missing("fp16", {"avx2", "avx512_bf16"}) == ("avx512_fp16", "amx_fp16")
    assert cpu.missing("fp16", {"avx2", "amx_fp16"}) == ()
    assert cpu.missing("bf16", {"avx2"}) == ("avx512bw", "avx_ne_convert")
    assert cpu.missing("bf16", {"avx2", "avx512bw"}) == ()
    assert cpu.missing("fp32", set()) == ()


def test_cells_survive_the_way_to_another_process(cells):
    assert pickle.loads(pickle.dumps(cells)) == cells
    assert len(set(cells)) == len(cells)


def test_loading_imports_neither_torch_nor_pytest():
    code = (
        "import sys; from fixtures.matrix import load_matrix, render_matrix; render_matrix(load_matrix());"
        "print([m for m in ('torch', 'transformers', 'numpy', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_rendered_matrix_shows_table_sources_and_contradictions(matrix):
    text = render_matrix(matrix)
    for model in matrix.specified:
        assert model.hub_id in text
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.count("|") == 7}
    ticks = {id: [cell.strip() for cell in line.split("|")[3:]] for id, line in lines.items()}
    assert ticks["llama-2-7b"] == ["✓", "✓", "✓", "✓", "✓ (1)"]
    assert ticks["gpt-j-6b"] == ["✓", "✓", "✓", "✓", ""]
    assert ticks["bloom-7b1"] == ["✓", "", "✓", "", ""]
    others = text.partition("Other models\n")[2].partition("\n\n")[0]
    assert all(model.id in others for model in matrix.models if model not in matrix.specified)
    assert "Supported Platforms list, line 2" in text
    assert "core-ultra-gptj-omitted" in text
    assert f"cpu: {len(matrix.cells(['cpu']))} cells" in text


# ---------------------------------------------------------------- geometry


def test_geometry_of_rows_that_inherit(matrix):
    big = matrix.model("llama-3.3-70b").geometry
    assert (big.layers, big.hidden, big.heads, big.kv_heads, big.head_dim) == (80, 8192, 64, 8, 128)
    assert big.rope_scaling_dict()["factor"] == 8.0
    small = matrix.model("llama-3.2-3b").geometry
    assert (small.group, small.tied_embeddings, small.rope_scaling_dict()["factor"]) == (3, True, 32.0)
    assert matrix.model("phi-3-mini-4k").geometry.sliding_window == 2047
    assert matrix.model("phi-3.5-mini").geometry.sliding_window == 262144
    long, newer = (matrix.model(id).geometry.rope_scaling_dict() for id in ("phi-3-mini-128k", "phi-3.5-mini"))
    assert len(long["long_factor"]) == len(newer["short_factor"]) == 48
    assert long["long_factor"] != newer["long_factor"]
    assert long["long_factor"] == sorted(long["long_factor"])


def test_only_phi3_has_an_active_sliding_window(matrix):
    assert {m.family for m in matrix.specified if m.geometry.sliding_window} == {"phi3"}


def test_rope_faults_are_planted_in_rotary_models_only(matrix):
    for model in matrix.models:
        mechanisms = set(model.arch.mechanisms)
        assert mechanisms >= {"mask", "cache", "scale"}
        assert ("rope" in mechanisms) == (model.geometry.position == "rope"), model.id
        assert ("alibi" in mechanisms) == (model.geometry.position == "alibi"), model.id
        assert model.arch.optimised_classes("cpu") == ("_IPEXDecoderLayerCPU",)
        assert model.arch.optimised_classes("cuda") == ()


def test_two_linears_of_every_layer_are_split_along_their_input(matrix):
    for model in matrix.models:
        assert len(set(model.arch.row_parallel) & set(model.arch.linears)) == 2, model.id


def test_activations_are_those_of_transformers():
    from transformers.activations import ACT2CLS

    assert {*ACTIVATIONS} == {*ACT2CLS}


def test_entries_build_the_configuration_class_of_transformers(matrix):
    from transformers import AutoConfig

    for model in matrix.models:
        if model.arch.model_type == "baichuan":
            continue  # its class comes with the weights
        entries = config_entries(model)
        config = AutoConfig.for_model(model.arch.model_type, **entries)
        shape = model.geometry
        assert config.num_hidden_layers == shape.layers, model.id
        assert config.hidden_size == shape.hidden, model.id
        assert config.num_attention_heads == shape.heads, model.id
        assert config.tie_word_embeddings == shape.tied_embeddings, model.id
        assert config.architectures == [model.architecture]
        assert getattr(config, "sliding_window", None) == shape.sliding_window, model.id
        known = config.to_dict()
        assert {key: known[key] for key in entries} == entries, model.id
        # A key that the class does not know would be kept all the same: ask its defaults.
        default = AutoConfig.for_model(model.arch.model_type).to_dict()
        unknown = set(entries) - set(default) - {"architectures", "seq_length"}
        if model.architecture == "Qwen2ForCausalLM":
            unknown -= {"head_dim"}  # no parameter of the class, but its attention reads it from the configuration
        assert not unknown, f"{model.id}: the class does not know {unknown}"
