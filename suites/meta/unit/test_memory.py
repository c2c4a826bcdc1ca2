"""What a cell needs of a device's memory, and what is done where that is not there."""

import pytest

from fixtures.contract.suites import questions
from fixtures.matrix import load_matrix
from fixtures.matrix.linears import parameters_of
from fixtures.matrix.memory import (
    GIB,
    Plan,
    Sizes,
    Work,
    amounts,
    candidate_needs,
    numbers,
    plan,
    reference_needs,
    required,
)
from fixtures.measure.latency import Grid
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings, Unsupported
from fixtures.weights.miniature import shrink

MODELS = {model.id: model for model in load_matrix().models}


@pytest.mark.parametrize(("model", "published"), [
    ("llama-2-7b", 6_738_415_616),
    ("llama-2-13b", 13_015_864_320),
    ("llama-2-70b", 68_976_648_192),
    ("llama-3-8b", 8_030_261_248),
    ("llama-3.2-1b", 1_235_814_400),
    ("phi-3-mini-4k", 3_821_079_552),
    ("mistral-7b", 7_241_732_096),
    ("gpt-j-6b", 6_050_882_784),
    ("qwen2-7b", 7_615_616_512),
    ("qwen3-4b", 4_022_468_096),
    ("opt-6.7b", 6_658_473_984),
    ("bloom-7b1", 7_069_016_064),
    ("glm-4-9b", 9_399_951_360),
    ("baichuan2-13b", 13_896_668_160),
    ("smollm2-135m", 134_515_008),
])  # fmt: skip
def test_parameters_are_the_published_number_to_the_last_one(model, published):
    assert parameters_of(MODELS[model], MODELS[model].geometry) == published


# -- plans ----

CELLS = {cell.id: cell for cell in load_matrix().all_cells()}
GENERATION = (Work(1, 544, 577), Work(2, 512, 545), Work(6, 120, 153), Work(32, 48, 56))
LATENCY = (Work(4, 1024, 1152),)
B580, MAX1100, MAX1550, H100 = 12 * GIB, 48 * GIB, 64 * GIB, 80 * GIB


def planned(cell, memory, suite="generation", **more):
    works = LATENCY if suite == "latency" else GENERATION
    return plan(Sizes(CELLS[cell], works, **more), memory, suite)


def test_a_host_has_no_plan():
    assert planned("llama-2-70b-bf16-cpu-single", None) == Plan()


@pytest.mark.parametrize(("cell", "memory", "layered", "in_turn", "layers"), [
    ("llama-2-7b-fp16-cuda-single-eager", H100, (), False, None),
    ("llama-2-7b-fp16-max1550-single", MAX1550, (), False, None),
    ("llama-2-7b-fp16-max1100-single", MAX1100, ("fp32",), False, None),
    ("llama-2-7b-fp16-b580-single", B580, ("fp32", "fp16"), True, 22),
    ("llama-2-7b-int4-max1550-single", H100, (), False, None),
    ("llama-2-7b-int4-max1550-single", MAX1550, ("oracle",), False, None),
    ("llama-2-7b-int4-max1100-single", MAX1100, ("oracle", "fp32"), False, None),
    ("llama-2-7b-int4-b580-single", B580, ("oracle", "fp32", "fp16"), True, None),
    ("llama-2-13b-fp16-cuda-single-eager", H100, ("fp32",), False, None),
    ("llama-2-13b-fp32-cuda-single-eager", H100, ("fp64", "fp32"), False, None),
])  # fmt: skip
def test_what_fits_decides_the_plan_of_a_generation(cell, memory, layered, in_turn, layers):
    found = planned(cell, memory)
    assert (found.layered, found.in_turn, found.layers) == (layered, in_turn, layers)
    assert not found.unsupported


@pytest.mark.parametrize("memory", [B580, MAX1100, MAX1550, H100])
@pytest.mark.parametrize("suite", numbers()["suites"])
def test_a_plan_needs_no_more_than_there_is(suite, memory):
    for cell in CELLS.values():
        if cell.platform.name in ("cuda", "b580") and cell.mode == "single":
            sizes = Sizes(cell, GENERATION)
            found = plan(sizes, memory, suite)
            built = sizes.with_layers(found.layers) if found.layers else sizes
            assert found.unsupported or required(built, suite, found) <= memory


def test_what_does_not_fit_is_unsupported_by_both_numbers():
    found = planned("llama-2-70b-fp16-cuda-single-eager", H100, "latency")
    assert found.unsupported == "needs 282.8 GiB, has 80.0 GiB"
    assert (
        planned("llama-2-70b-fp16-cuda-single-eager", H100, "accuracy").unsupported == "needs 151.7 GiB, has 80.0 GiB"
    )


def test_the_verdict_says_which_plan_was_taken():
    cell = CELLS["llama-2-70b-fp16-cuda-single-eager"]
    how = "45 of 80 layers, reference by layers, one after the other"
    assert planned(cell.id, H100).note(cell) == f"{how} (all at once needs 545.5 GiB, has 80.0 GiB)"
    assert planned("llama-2-7b-fp16-cuda-single-eager", H100).note(cell) == ""


def test_the_number_that_does_not_fit_is_never_printed_as_the_smaller_one():
    assert amounts(80 * GIB + 1, 80 * GIB) == "needs 80.1 GiB, has 80.0 GiB"


def test_fewer_layers_only_where_the_question_is_about_layers():
    """Quantised and sharded checkpoints are whole ones; a score and a time belong to the whole model."""
    assert planned("llama-2-70b-fp16-max1550-autotp", MAX1550, "tp_answers", world=4).unsupported
    assert planned("llama-2-70b-fp16-cuda-single-eager", B580, "latency").unsupported
    assert planned("llama-2-70b-fp16-cuda-single-eager", B580, "dispatch").layers
    assert planned("llama-2-7b-int4-b580-single", 4 * GIB).unsupported


def test_a_folder_of_weights_waits_on_the_device_where_it_fits_else_on_the_host():
    drawn = planned("llama-2-7b-fp16-max1100-single", MAX1100)
    held = planned("llama-2-7b-fp16-max1100-single", MAX1100, drawn=False)
    small = planned("llama-2-7b-fp16-max1100-single", 32 * GIB, drawn=False)
    assert (drawn.waiting, held.waiting, small.waiting) == ("drawn", "device", "host")


def test_a_miniature_always_fits():
    for cell in CELLS.values():
        small = shrink(cell.model.geometry, "head_dim" in dict(cell.model.arch.config))
        for suite in numbers()["suites"]:
            assert plan(Sizes(cell, GENERATION, small, drawn=False), B580, suite) == Plan()


def test_a_suite_without_a_reference_asks_the_one_that_is_there_to_leave():
    assert planned("llama-2-13b-fp16-cuda-single-eager", H100, "dispatch").alone
    assert not planned("llama-2-7b-fp16-cuda-single-eager", H100, "dispatch").alone


def timed(cell, memory, before=GENERATION):
    return plan(Sizes(CELLS[cell], LATENCY, before=before), memory, "latency")


@pytest.mark.parametrize("cell", [
    "llama-2-7b-fp16-max1550-single", "mistral-7b-fp16-max1550-single", "gpt-j-6b-fp16-max1550-single",
    "opt-6.7b-fp16-max1550-single", "phi-3-mini-128k-int4-max1100-single", "bloom-7b1-fp16-cuda-single-eager",
])  # fmt: skip
def test_a_timing_counts_what_an_earlier_suite_left_of_the_reference(cell):
    """Both fit by themselves: the answers' three models at once, and the two that are timed. All four do not."""
    memory = {"max1550": MAX1550, "max1100": MAX1100, "cuda": H100}[CELLS[cell].platform.name]
    sizes = Sizes(CELLS[cell], LATENCY, before=GENERATION)
    left, alone = (required(sizes, "latency", Plan(alone=leaves)) for leaves in (False, True))
    assert alone < memory < left
    assert timed(cell, memory) == Plan(alone=True)


def test_what_was_left_stays_where_it_fits():
    assert timed("llama-2-7b-fp16-cuda-single-eager", H100) == Plan()
    assert timed("llama-2-7b-fp16-max1550-single", MAX1550 + 8 * GIB) == Plan()


def test_what_was_left_is_all_models_of_the_reference_and_their_largest_work():
    sizes = Sizes(CELLS["llama-2-7b-fp16-cuda-single-eager"], LATENCY, before=GENERATION)
    counted = required(sizes, "latency", Plan()) - required(sizes, "dispatch", Plan(alone=True))
    assert counted > 6 * 6_738_415_616  # fp32 and fp16
    assert counted == reference_needs(Sizes(sizes.cell, GENERATION + LATENCY), ("fp32", "fp16")).total
    # The model in fp64, of eight bytes a parameter, has left by then.
    fp32 = Sizes(CELLS["llama-2-7b-fp32-cuda-single-eager"], LATENCY, before=GENERATION)
    assert required(fp32, "latency", Plan()) < (4 + 4 + 8) * 6_738_415_616


def test_the_reference_leaves_before_a_timing_that_has_no_room_for_it():
    class Model:
        closed, layers = False, None

        def close(self):
            self.closed = True

    cell, grid = CELLS["llama-2-7b-fp16-max1550-single"], Grid(4, 1, 1024, 128, 1, 1)
    for memory, leaves in ((MAX1550, True), (H100, False)):
        runtime = Runtime(Settings(weights="synthetic"), total_memory=lambda _, memory=memory: memory)
        left, key = Model(), (cell.model.id, "xpu", Plan().reference)
        runtime.references[key] = left
        runtime.place(cell, "latency", grid)
        assert left.closed is leaves
        assert (key in runtime.references) is not leaves


@pytest.mark.parametrize(("count", "refused"), [(None, False), (0, False), (1, True), (2, False), (8, False)])
def test_a_cell_has_a_device_for_each_rank(count, refused):
    cell, memory = CELLS["llama-2-7b-fp16-max1550-autotp"], {"total_memory": lambda _: 200 * GIB}
    runtime = Runtime(Settings(weights="synthetic"), device_count=lambda _: count, **memory)
    if refused:
        with pytest.raises(Unsupported, match="needs 2 devices, one for each rank; this machine has 1"):
            runtime.place(cell, "tp_answers")
    else:
        runtime.place(cell, "tp_answers")


def test_weights_that_there_are_none_of_end_a_cell_before_its_reference_is_loaded():
    runtime = Runtime(Settings(weights="synthetic"), total_memory=lambda _: 200 * GIB)
    with pytest.raises(Unsupported, match="INT4 quantises a checkpoint, and synthetic weights have none"):
        runtime.place(CELLS["llama-2-7b-int4-max1550-single"], "generation")
    assert not runtime.references


@pytest.mark.parametrize("suite", ["latency", "against"])
def test_a_grid_past_a_models_positions_is_no_fault_of_anybody(suite):
    runtime, cell = Runtime(Settings(weights="synthetic")), CELLS["llama-2-7b-fp16-cuda-single-eager"]
    with pytest.raises(Unsupported, match="input=4000 and output=128 need 4127 positions, and llama-2-7b has 4096"):
        runtime.place(cell, suite, Grid(1, 1, 4000, 128, 1, 1))
    runtime.place(cell, suite, Grid(1, 1, 3969, 128, 1, 1))
    runtime.place(cell, "generation", Grid(1, 1, 4000, 128, 1, 1))


def test_every_suite_has_a_row():
    assert {*numbers()["suites"]} == {*questions()}


def test_a_reference_by_layers_holds_less_than_one_loaded_whole():
    sizes = Sizes(CELLS["llama-2-7b-fp16-cuda-single-eager"], GENERATION)
    whole = reference_needs(sizes, ("fp32", "fp16"))
    layered = reference_needs(sizes, ("fp32", "fp16"), ("fp32",), "drawn")
    assert whole.weights == 6 * 6_738_415_616
    assert layered.weights < whole.weights / 2
    assert candidate_needs(sizes).weights == 2 * 6_738_415_616
