"""The oracle of INT4: at an exact tie it takes the stack's integer, everywhere else its own."""

import numpy as np
import pytest

GROUP = 64


def integers(weight):
    """What the oracle makes of weights [out, in] with whole groups, in steps of their scale."""
    from fixtures.engine.quantise import round_to_nearest

    scales = weight.double().reshape(len(weight), -1, GROUP).abs().amax(-1) / 7
    return (round_to_nearest(weight, GROUP).double() / scales.repeat_interleave(GROUP, 1)).round()


def by_the_stack(weight):
    """What neural-compressor computes: the scale and the quotient in float32, the quotient rounded half to even."""
    scales = weight.reshape(len(weight), -1, GROUP).abs().amax(-1) / 7
    return (weight / scales.repeat_interleave(GROUP, 1)).round()


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_weights_stored_in_sixteen_bits_get_the_integers_of_the_stack(stored):
    import torch

    drawn = torch.randn(256, 8 * GROUP, generator=torch.Generator().manual_seed(7)) / 20
    weight = drawn.to(getattr(torch, stored)).float()
    assert (integers(weight) == by_the_stack(weight)).all()


def test_a_weight_beside_a_tie_gets_the_integer_of_exact_arithmetic():
    """The second weight is 2.50000003 steps of its scale, of which float32 makes 2.5 and then 2."""
    import torch

    weight = torch.zeros(1, GROUP)
    weight[0, :2] = torch.tensor([float.fromhex("0x1.faed86p-1"), float.fromhex("0x1.6a176p-2")])
    assert by_the_stack(weight)[0, 1] == 2
    assert integers(weight)[0, 1] == 3


def test_a_last_group_may_be_shorter():
    """400 inputs are six groups of 64 and one of 16, which has a scale of its own."""
    import torch

    from fixtures.engine.quantise import round_to_nearest

    weight = torch.randn(8, 400, generator=torch.Generator().manual_seed(7))
    whole, last = round_to_nearest(weight[:, :384], GROUP), round_to_nearest(weight[:, 384:], 16)
    assert (round_to_nearest(weight, GROUP) == torch.cat([whole, last], 1)).all()


@pytest.mark.parametrize("spread", [1, 2e-5])  # of the latter fp16 has no reciprocal of the scales
@pytest.mark.parametrize("scheme", ["float zero bf16", "asymmetric fp16"])
def test_the_reference_rounds_as_the_oracle_of_the_checks(scheme, spread):
    import torch

    from fixtures.engine import quantise
    from fixtures.weights import int4_format

    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(11))
    weight[32:] += 3  # where all weights of a group have one sign, its middle is rounded, too
    weight *= spread
    mine = quantise.round_to_nearest(weight, GROUP, scheme)
    oracle = int4_format.round_to_nearest(weight.numpy(), GROUP, scheme)
    assert np.abs(mine.numpy() - oracle.weights()).max() <= 1e-6 * spread


@pytest.mark.parametrize(
    "number", [0.0, -0.0, 1.0, 1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-20, 1 + 3 * 2.0**-8, -3e-39, 3.3e38]
)
def test_bf16_rounds_to_even_as_torch_does(number):
    import torch

    from fixtures.weights.int4_format import in_bf16

    assert in_bf16(np.float32([number])).tobytes() == torch.tensor([number]).bfloat16().float().numpy().tobytes()


def test_a_scheme_that_does_not_exist_is_refused_on_both_sides():
    import torch  # late: collecting imports nothing slow

    from fixtures.engine import quantise
    from fixtures.weights import int4_format

    with pytest.raises(ValueError, match="no scheme of INT4 is called 'fp32'"):
        int4_format.round_to_nearest(np.ones((2, 64), np.float32), 64, "fp32")
    with pytest.raises(ValueError, match="no scheme of INT4 is called 'fp32'"):
        quantise.round_to_nearest(torch.ones(2, 64), 64, "fp32")
