"""What a class computes for itself is no part of a precision's noise: tables of positions of a reference are fp32's."""

import dataclasses
from types import SimpleNamespace

import pytest

from fixtures import transformers_api
from fixtures.matrix import config_entries, load_matrix

MODELS = [model for model in load_matrix().models if model.representative and model.weights == "miniature"]


# One whose class rounds, and one whose does not; the others at night.
SHOWN = [
    pytest.param(model, id=model.family, marks=() if model.family in ("gptj", "llama2") else pytest.mark.nightly)
    for model in MODELS
]


@pytest.fixture(scope="module", params=SHOWN)
def model(request):
    return request.param


def loaded(runtime, model, dtype):
    """The stock model of a row's miniature, as from_pretrained() makes it."""
    from transformers import AutoModelForCausalLM

    folder, trusted = runtime.weights.of(model, "cpu").folder, bool(model.remote_code)
    options = {**transformers_api.in_type(dtype), "trust_remote_code": trusted}
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def computed(model):
    """{name: tensor} of the float tensors that are neither parameters nor of a checkpoint."""
    import torch

    stored, found = model.state_dict(), {}
    for name, module in model.named_modules():
        for key, value in {**module._buffers, **vars(module)}.items():
            full = f"{name}.{key}".removeprefix(".")
            if isinstance(value, torch.Tensor) and value.is_floating_point() and full not in stored:
                found[full] = value
    return found


def off(half, exact):
    """{name: largest distance} of the tensors of `half` that are not those of `exact`, rounded to their type."""
    distances = {
        name: (tensor.double() - exact[name].to(tensor.dtype).double()).abs().max().item()
        for name, tensor in half.items()
    }
    return {name: distance for name, distance in distances.items() if distance}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp64"])
def test_a_reference_has_the_tables_of_fp32_or_of_its_wider_type(runtime, model, precision):
    import torch

    from fixtures.engine.recipe import DTYPES
    from fixtures.weights.computed import compute_in_fp32

    dtype = DTYPES[precision]
    exact = computed(loaded(runtime, model, torch.float32 if precision != "fp64" else dtype))
    half = loaded(runtime, model, dtype)
    rounded = off(computed(half), exact)
    assert bool(rounded) == (model.family == "gptj" and precision != "fp64"), "no correction is needed"
    compute_in_fp32(half, dtype)
    assert off(computed(half), exact) == {}


@pytest.mark.parametrize(("role", "found"), [("optimised", "eager"), ("stock", "sdpa")])
def test_drawn_weights_have_the_attention_that_a_candidate_asks_for(runtime, role, found):
    """On accelerators, where a reference leaves it to the library."""
    import torch

    from fixtures.engine import recipe

    model = next(model for model in MODELS if model.family == "llama2")
    weights = runtime.weights.of(model, "cpu")
    entries = {"model_type": model.arch.model_type, **config_entries(model, weights.geometry)}
    form = {"synthetic": True, "entries": entries, "geometry": dataclasses.asdict(weights.geometry)}
    here = SimpleNamespace(device="cpu")
    made = recipe._plain({**form, "role": role, "attention": "eager"}, torch.float32, here, {})
    assert made.config._attn_implementation == found
