"""What counts as a weight of a model that IPEX's GPU build has optimised."""

import pytest


@pytest.mark.parametrize("kept", [True, False])
def test_a_table_that_a_wrapper_replaced_counts_once(kept):
    """Around lm_head IPEX keeps a transposed table of its own, and of Baichuan2 the original beside it."""
    import torch

    from fixtures.engine.adapters.xpu import PlatformAdapter

    head, model = torch.nn.Linear(4, 8, bias=False), torch.nn.Module()
    model.body, model.lm_head = torch.nn.Linear(4, 4, bias=False), torch.nn.Module()
    model.lm_head.module = head
    model.lm_head.weight = head.weight.detach().t().contiguous()
    if not kept:
        head.weight = None
    assert [tuple(table.shape) for table in PlatformAdapter().weights(model)] == [(4, 4), (4, 8)]
