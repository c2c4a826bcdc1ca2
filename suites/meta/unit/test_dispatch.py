"""Traces are folded without loss, compared for equality both ways, and read from files that may be spoilt."""

import copy
import json
import random
import types

import pytest

from fixtures.checks.dispatch import check_dispatch, difference, without_views
from fixtures.io import folding
from fixtures.measure.dispatch import Dispatch
from fixtures.results import ResultsError
from fixtures.results.accepted import AcceptedTraces
from fixtures.results.recording import Recorder
from fixtures.results.traces import TraceFiles

CELL = types.SimpleNamespace(id="llama-2-7b-bf16-cpu-single", platform=types.SimpleNamespace(name="cpu"))
LAYER = ["norm bf16[1,L,8]", "linear bf16[1,L,8] bf16[8,8]", "attention bf16[1,L,8]", "linear bf16[1,L,8] bf16[8,8]"]


def layer(number, name="model.layers"):
    return [(text, f"{name}.{number}.{'attn' if 'att' in text else 'mlp'}") for text in LAYER]


def sequence(layers=4):
    middle = [item for number in range(layers) for item in layer(number)]
    return [
        ("embedding i64[1,L]", "model.embed"),
        *middle,
        ("linear bf16[1,L,8] bf16[32,8]", "lm_head"),
        ("argmax", ""),
    ]


def trace(**changes):
    def step(calls):
        operations = [list(item) for item in sequence()]
        views, kernels = {"view": 3}, ["matmul brg:avx512 src:bf16"] * 4
        return dict(operations=operations, views=views, kernels=kernels, copies={}, graphs=0, python_calls=calls)

    context = dict(versions={"torch": "2.8.0", "python": "3.11.7", "numpy": "1"}, threads=1, model="a CPU")
    context |= dict(geometry={"layers": 4}, parameters={"prompt": 37})
    steps = {"prefill": step(90), "decode 1": step(40), "decode 2": step(40)}
    return copy.deepcopy(dict(context=context, layers=4, targets={"libxsmm": "spr"}, steps=steps) | changes)


def lines(accepted, measured, **more):
    return {line.check: line for line in check_dispatch(Dispatch(CELL, measured), accepted, **more)}


# -- folding ----


def test_a_layer_stands_once_with_its_count():
    folded = folding.fold(sequence(32))
    assert folded[0:2] == ["@ model.embed", "embedding i64[1,L]"]
    assert folded[2][0] == "32 layers"
    assert "@ model.layers.0.attn" in folded[2]
    assert len(json.dumps(folded)) < 500
    assert folding.unfold(folded) == [list(item) for item in sequence(32)]


def test_nothing_is_lost_in_folding():
    chance = random.Random(7)
    places = ["", "m.1", "m.2", "m.3", "m.10.x", "n"]
    for _ in range(2000):
        sequence = [(chance.choice("abc"), chance.choice(places)) for _ in range(chance.randrange(40))]
        sequence *= chance.choice((1, 1, 2, 5))  # as layers repeat
        assert folding.unfold(folding.fold(sequence)) == [list(item) for item in sequence]


@pytest.mark.parametrize("block", [[["0 times", "a"]], [["many times", "a"]], [[]], [[["1 times"], "a"]]])
def test_what_is_no_block_is_not_unfolded(block):
    with pytest.raises(ValueError, match="no repeated block"):
        folding.unfold(block)


def test_a_place_is_named_by_module_else_by_position():
    named, bare = sequence(), [(text, "graph") for text, _ in sequence()]
    assert folding.place(named, 6, 4) == "layer 1 of 4: model.layers.1.mlp"
    assert folding.place(bare, 6, 4) == "layer 1 of 4, by position"
    assert folding.place(bare, 0, 4) == "graph"
    assert folding.place(bare, len(bare) - 1, 4) == "after the last of 4 layers, by position"
    assert folding.place([("a", ""), ("b", "")], 1, 4) == ""


def test_views_and_numbers_are_counted_and_work_is_kept_in_order():
    found = [["aten::view f32[2]", ""], ["aten::mul f32[2] f32[]", "m"], ["aten::mul f32[] f32[]", ""]]
    found += [["aten::_local_scalar_dense f32[]", ""], ["aten::empty", ""], ["torch_ipex::rmsnorm f32[2]", "n"]]
    kept, views = without_views(found)
    assert kept == [["mul f32[2] f32[]", "m"], ["_local_scalar_dense f32[]", ""], ["torch_ipex::rmsnorm f32[2]", "n"]]
    assert views == {"empty": 1, "scalar mul": 1, "view": 1}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx512_core,undef,src:f32::blocked:ab::f0 "
            "wei:bf16:a:any:any::f0 dst:f32::blocked:ab::f0,attr-scratchpad:user,,1x512:512x8,0.01",
            "matmul brg_matmul:avx512_core src:f32 wei:bf16 dst:f32",
        ),
        (
            "onednn_verbose,exec,cpu,reorder,jit:uni,undef,src_f32::blocked:abc:f0 dst_s8::blocked:acb:f0,,,8x8,0.1",
            "reorder jit:uni src:f32 dst:s8",
        ),
        ("onednn_verbose,v1,info,cpu,isa:Intel AVX2", None),
        ("onednn_verbose,v1,primitive,exec", None),
        ("a library's own words, exec", None),
    ],
)
def test_onednn_is_read_without_times(line, found):
    from fixtures.engine.dispatch import primitive_of  # here, since it imports the stack

    assert primitive_of(line) == found


def event(name, start, device="CPU", correlation=0):
    from torch.profiler import DeviceType  # here, since importing it takes seconds

    plain = dict(name=name, start_ns=start, correlation_id=correlation, is_user_annotation=name.startswith("##"))
    return types.SimpleNamespace(
        **{key: lambda value=value: value for key, value in plain.items()},
        device_type=lambda: getattr(DeviceType, device),
    )


def test_kernels_of_a_device_belong_to_the_step_that_launched_them():
    from fixtures.engine.dispatch import _device_kernels  # here, since it imports the stack

    host = [event("launch", 1, correlation=7), event("##step", 5), event("launch", 6, correlation=8)]
    device = [event("second", 9, "CUDA", 8), event("first", 8, "CUDA", 7), event("##step", 8, "CUDA")]
    device.append(event("Memcpy HtoD", 7, "CUDA", 7))
    kernels, copies = _device_kernels([*host, *device], host)
    assert kernels == [["first"], ["second"]]
    assert copies == [{"Memcpy HtoD": 1}, {}]


# -- comparing ----


def test_the_same_trace_passes_every_check():
    found = lines(trace(), trace())
    assert {line.verdict for line in found.values()} == {"PASS"}
    assert list(found) == ["operations", "kernels", "graphs", "python_calls", "runs"]
    assert difference(trace(), trace()) is None


def test_one_operation_more_or_fewer_fails_with_its_layer_and_step():
    more = trace()
    more["steps"]["decode 1"]["operations"].insert(9, ["copy_ bf16[1,L,8]", "model.layers.2.mlp"])
    line = lines(trace(), more)["operations"]
    assert line.verdict == "FAIL"
    assert line.measured == (
        "decode 1: operation 10 of 20 (layer 2 of 4: model.layers.2.mlp) is copy_ bf16[1,L,8] where norm bf16[1,L,8] "
        "was accepted; came: 1 x copy_ bf16[1,L,8]"
    )
    assert "went: 1 x copy_ bf16[1,L,8]" in lines(more, trace())["operations"].measured
    fewer = trace()
    del fewer["steps"]["prefill"]["operations"][-1]
    assert "prefill: ends after 18 of 19 operations" in lines(trace(), fewer)["operations"].measured
    assert "is argmax where the accepted ones end" in lines(fewer, trace())["operations"].measured


def test_order_views_and_names_of_modules():
    other = trace()
    first = other["steps"]["prefill"]["operations"]
    first[1], first[2] = first[2], first[1]
    assert "the same ones in another order" in lines(trace(), other)["operations"].measured
    other = trace()
    other["steps"]["decode 2"]["views"] = {"view": 3, "empty": 2}
    assert lines(trace(), other)["operations"].measured == (
        "decode 2: the same operations with other views or allocations; came: 2 x empty"
    )
    other = trace()
    for item in other["steps"]["prefill"]["operations"]:
        item[1] = "another.name"
    assert difference(trace(), other) is None


def test_kernels_targets_graphs_and_calls_have_lines_of_their_own():
    other = trace(targets={"libxsmm": "clx"})
    other["steps"]["decode 1"]["kernels"][1] = "matmul gemm:jit src:bf16"
    other["steps"]["decode 1"]["copies"] = {"Memcpy HtoD": 1}
    other["steps"]["prefill"]["graphs"] = 1
    other["steps"]["decode 2"]["python_calls"] = 90
    found = lines(trace(), other)
    assert found["operations"].verdict == "PASS"
    assert found["kernels"].measured.startswith("libxsmm is set to clx where spr was accepted; decode 1: kernel 2 of 4")
    assert found["graphs"].measured == "prefill: 1 graphs compiled where 0 were accepted (+1)"
    assert found["python_calls"].measured == "decode 2: 90 Python calls where 40 were accepted (+50)"
    assert difference(trace(), other).startswith("kernels: libxsmm")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["versions"].update(torch="2.9.0"), "torch 2.9.0 here and 2.8.0 accepted"),
        (lambda c: c["versions"].update(deepspeed="1"), "deepspeed 1 here and missing accepted"),
        (lambda c: c.update(threads=2), "threads 2 here and 1 accepted"),
        (lambda c: c.update(parameters={"prompt": 38}), "parameters {'prompt': 38} here"),
    ],
)
def test_another_stack_or_thread_count_is_incomparable_and_shows_the_difference(change, said):
    other = trace()
    change(other["context"])
    assert lines(trace(), other)["kernels"].measured == f"{lines(trace(), other)['graphs'].measured}"
    other["steps"]["decode 1"]["operations"].pop()
    found = lines(trace(), other)
    assert {line.verdict for name, line in found.items() if name != "runs"} == {"INCOMPARABLE"}
    assert said in found["operations"].measured
    assert "decode 1: ends after 18" in found["operations"].measured
    assert "no difference" in found["graphs"].measured


def test_another_cpu_compares_operations_but_not_kernels():
    other = trace()
    other["context"]["model"] = "another CPU"
    found = lines(trace(), other)
    assert found["operations"].verdict == found["python_calls"].verdict == "PASS"
    assert (found["kernels"].verdict, "another CPU here" in found["kernels"].measured) == ("INCOMPARABLE", True)
    assert lines(trace(), trace(), comparable=False)["operations"].verdict == "INCOMPARABLE"


def test_without_a_trace_there_is_no_verdict_to_give():
    assert {line.verdict for line in check_dispatch(Dispatch(CELL, trace()), None)} == {"NO_BASELINE", "PASS"}
    other = trace()
    other["steps"]["rank 1 prefill"] = other["steps"]["prefill"]
    assert "other steps were recorded: rank 1 prefill" in lines(trace(), other)["operations"].measured
    assert "before: operations: other steps" in lines(trace(), other, accepting=True)["operations"].measured


# -- files ----


@pytest.fixture
def files(tmp_path):
    return TraceFiles(tmp_path)


def accept(files, found, key="amx"):
    store = AcceptedTraces(files, True, types.SimpleNamespace(key=lambda *_: key), Recorder(None, None, files))
    store.record(
        CELL, check_dispatch(Dispatch(CELL, found), None, accepting=True), Dispatch(CELL, found), lambda _: False
    )
    assert json.loads(json.dumps(store.recorder.held)) == store.recorder.held, "the journal keeps it"
    store.recorder.take(keep=True)
    return store, files.commit({"command": "pytest", "versions": {"torch": "2.8.0"}})


def test_a_trace_is_the_same_after_its_file(files):
    store, reported = accept(files, trace())
    assert reported[0].endswith(" operations in 3 steps")
    assert store.find(CELL) == (trace(), True)
    text = files.path("cpu", "amx", CELL.id).read_text()
    assert '"decode 1": "as prefill"' in text
    assert '\n    "attention bf16[1,L,8]",\n' in text
    assert len(text) < 3000


def test_a_file_of_another_level_is_found_as_such_and_one_that_stays_is_not_written(files):
    accept(files, trace())
    path = files.path("cpu", "amx", CELL.id)
    before = path.stat().st_mtime_ns
    _, reported = accept(files, trace())
    assert (reported, path.stat().st_mtime_ns) == ([], before)
    elsewhere = AcceptedTraces(files, False, types.SimpleNamespace(key=lambda *_: "avx2"))
    assert elsewhere.find(CELL) == (trace(), False)


SPOILT = {
    "truncated": (lambda text: text[: len(text) // 2], ""),
    "no JSON": (lambda text: "once upon a time", ""),
    "another schema": (lambda text: text.replace('"schema": 1', '"schema": 2'), "is no record of traces of schema 1"),
    "another cell": (lambda text: text.replace(CELL.id, "llama-2-13b"), "where its place says"),
    "no kernels": (lambda text: text.replace('"kernels"', '"kernel"'), "has no kernels"),
    "a bomb": (lambda text: text.replace("4 layers", "9999999 layers"), "has a malformed sequence"),
    "a loop": (lambda text: text.replace('"as prefill"', '"as decode 2"', 1), "which is no other step's"),
    "no count": (lambda text: text.replace('"prefill": 90', '"prefill": -1'), "which is no count"),
    "a text for a table": (lambda text: text.replace('{"view": 3}', '"view"'), "which is no other step's"),
    "no versions": (
        lambda text: text.replace('"versions": {"torch": "2.8.0", "py', '"x": {"torch": "2.8.0", "py'),
        "context",
    ),
    "layers": (lambda text: text.replace('"layers": 4,\n "op', '"layers": 0,\n "op'), "no number of layers"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_one_sentence(files, name):
    change, said = SPOILT[name]
    store, _ = accept(files, trace())
    path = files.path("cpu", "amx", CELL.id)
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    with pytest.raises(ResultsError) as caught:
        store.find(CELL)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
