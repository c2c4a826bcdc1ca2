"""Faults of what a model holds, planted before the optimiser takes it: weights, biases, settings of its layers.

As in suites.meta.faults.model, functions take the loaded model. They strike stock and optimised classes alike.
"""

import torch


def _modules(model, end):
    found = [module for name, module in model.named_modules() if name.endswith(end)]
    assert found, f"no module {end}: the fault would not be planted"
    return found


def _rounded(weight, bits):
    mantissa, exponent = torch.frexp(weight.float())
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent).to(weight.dtype)


def biases_of_queries_dropped(model):
    for module in _modules(model, "q_proj"):
        module.bias.data.zero_()


def gate_and_up_swapped(model):
    for gate, up in zip(_modules(model, "gate_proj"), _modules(model, "up_proj"), strict=True):
        gate.weight.data, up.weight.data = up.weight.data, gate.weight.data


def row_of_one_mlp_zeroed(model):
    _modules(model, "layers.1.mlp.down_proj")[0].weight.data[3] = 0


def norms_add_one(model):
    """As models of another family store the weights of their norms."""
    for module in _modules(model, "input_layernorm"):
        module.weight.data += 1


def norm_of_queries_left_out(model):
    for module in _modules(model, "q_norm"):
        module.weight.data.fill_(1)


def activation_is_gelu(model):
    for module in _modules(model, ".mlp"):
        module.act_fn = torch.nn.GELU()


def tied_weights_lost(model):
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight) * head.weight.std())


def head_of_the_last_rows_zero(model):
    """The last 8 tokens of the vocabulary, as where it is no multiple of a tile."""
    model.get_output_embeddings().weight.data[-8:] = 0


def embeddings_off_by_one_row(model):
    """From the middle of the vocabulary on, a token reads its neighbour's row."""
    weight = model.get_input_embeddings().weight.data
    weight[len(weight) // 2 :] = weight[len(weight) // 2 :].roll(1, 0)


def embedding_doubled(model):
    """Every embedding is twice as large."""
    model.get_input_embeddings().weight.data *= 2


def weights_rounded_to_eleven_bits(model):
    """Linears compute as in TF32 where fp32 was asked for."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = _rounded(module.weight.data, 11)


def two_layers_swapped(model):
    layers = model.model.layers
    first, second = layers[0].state_dict(), layers[1].state_dict()
    first = {name: tensor.clone() for name, tensor in first.items()}
    layers[0].load_state_dict(second)
    layers[1].load_state_dict(first)


def positions_of_embeddings_off_by_one(model):
    model.model.decoder.embed_positions.weight.data = model.model.decoder.embed_positions.weight.data.roll(1, 0)


# -- by size: NAME_at_SIZE, a share in millionths ----


def _attention_scale(model, share):
    for module in _modules(model, "q_proj"):
        module.weight.data = module.weight.data * (1 + share)


def _rope_base(model, share):
    from .model import _scale_rope_base

    _scale_rope_base(model, 1 + share)


def _norm_eps(model, share):
    """`share` is added to eps itself: millionths are its natural unit."""
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon += share
    model.config.rms_norm_eps += share


def _mlp_output(model, share):
    for module in _modules(model, "down_proj"):
        module.weight.data = module.weight.data * (1 + share)


def _one_row(model, share):
    _modules(model, "layers.1.mlp.down_proj")[0].weight.data[3] *= 1 - share


GRADED = {
    "attention_scale": _attention_scale,
    "rope_base": _rope_base,
    "norm_eps": _norm_eps,
    "mlp_output": _mlp_output,
    "one_row": _one_row,
}


def __getattr__(name):
    fault, _, size = name.rpartition("_at_")
    if fault not in GRADED:
        raise AttributeError(name)
    return lambda model: GRADED[fault](model, float(size.replace("p", ".")) * 1e-6)
