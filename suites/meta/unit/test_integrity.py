"""Digests of weights: of wrappers, whose own storage is empty, the tensors within are digested."""

from types import SimpleNamespace

import torch

from fixtures.engine.integrity import digests


class Packed:
    """Stands for a weight of torchao: two tensors, and none of its own that can be viewed."""

    def __init__(self):
        self.codes, self.scales = torch.arange(8, dtype=torch.uint8), torch.ones(2, dtype=torch.bfloat16)

    def __tensor_flatten__(self):
        return ["codes", "scales"], None


def of_linear():
    linear = torch.nn.Linear(2, 2)
    del linear.weight
    vars(linear)["weight"] = Packed()
    adapter = SimpleNamespace(hidden_weights=lambda module: {})
    return linear.weight, lambda: digests(SimpleNamespace(model=linear, adapter=adapter))


def test_a_byte_that_changes_within_a_packed_weight_is_named():
    packed, taken = of_linear()
    before = taken()
    assert {*before} == {"bias", "weight.codes", "weight.scales"}
    packed.codes[3] = 9
    after = taken()
    assert [name for name in before if before[name] != after[name]] == ["weight.codes"]
