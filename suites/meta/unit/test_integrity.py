"""Digests of weights: of wrappers, whose own storage is empty, the tensors within are digested."""

from types import SimpleNamespace


class Packed:
    """Stands for a weight of torchao: tensors within, and none of its own that can be viewed."""

    def __init__(self, **tensors):
        self.__dict__ |= tensors

    def __tensor_flatten__(self):
        return [*vars(self)], None


def test_a_byte_that_changes_within_a_packed_weight_is_named():
    import torch  # late: collecting imports nothing slow

    from fixtures.engine.integrity import digests

    linear = torch.nn.Linear(2, 2)
    del linear.weight
    packed = Packed(codes=torch.arange(8, dtype=torch.uint8), scales=torch.ones(2, dtype=torch.bfloat16))
    vars(linear)["weight"] = packed
    loaded = SimpleNamespace(model=linear, adapter=SimpleNamespace(hidden_weights=lambda module: {}))
    before = digests(loaded)
    packed.codes[3] = 9
    after = digests(loaded)
    assert {*before} == {"bias", "weight.codes", "weight.scales"}
    assert [name for name in before if before[name] != after[name]] == ["weight.codes"]
