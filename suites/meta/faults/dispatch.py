"""Faults of dispatch that the suite's own tests plant: the answers stay the same or nearly so, what runs does not.

As in suites.meta.faults.model, functions take the loaded model and return it, or None. Those of stock classes change
the second layer of a miniature, so that the message has a layer to name.
"""

import functools

import torch

SECOND = "model.layers.1"


# -- in any engine ----


def _around_every_forward(model, extra):
    """Calls `extra(input_ids)` before each step: of IPEX's traced graph, which its generate calls, else the model's."""
    graph = getattr(model, "trace_graph", None)
    honest = model.forward if graph is None else graph

    @functools.wraps(model.forward)  # generate() reads the signature
    def forward(*inputs, **options):
        extra(inputs[0] if inputs else options["input_ids"])
        return honest(*inputs, **options)

    if graph is None:
        model.forward = forward
    else:
        del model.trace_graph
        object.__setattr__(model, "trace_graph", forward)


def one_copy_more(model):
    _around_every_forward(model, lambda ids: ids.clone() if ids.shape[1] == 1 else None)  # in decode only


def fifty_python_calls_more(model):
    def nothing():
        return None

    _around_every_forward(model, lambda ids: [nothing() for _ in range(50)] if ids.shape[1] == 1 else None)


def one_recompilation_a_step(model):
    import torch._dynamo

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000
    turns = []

    @torch.compile(backend="eager", dynamic=False)
    def compiled(ids, turn):
        return ids + turn

    def extra(ids):
        turns.append(None)
        compiled(ids[:1, :1], len(turns))

    _around_every_forward(model, extra)


def one_recompilation_a_call(model):
    """Of a model that torch.compile compiles: each call for a single prompt of 32 tokens needs a graph of its own."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000
    generate, honest = model.generate, model.forward
    model.planted_turn = 1

    def counted(input_ids, **options):
        model.planted_turn += tuple(input_ids.shape) == (1, 32)
        return generate(input_ids, **options)

    @functools.wraps(honest)
    def forward(*inputs, **options):
        output = honest(*inputs, **options)
        output.logits = output.logits * (model.planted_turn / model.planted_turn)  # a constant of the graph
        return output

    model.generate, model.forward = counted, forward


def eight_clones_more(model):
    _around_every_forward(model, lambda ids: [ids.clone() for _ in range(8)] if ids.shape[1] == 1 else None)


def one_all_reduce_more(model):
    from deepspeed import comm

    _around_every_forward(model, lambda ids: comm.inference_all_reduce(torch.zeros(8, dtype=torch.bfloat16)))


# -- in stock classes ----


def linear_in_fp32(model):
    linear = model.get_submodule(f"{SECOND}.mlp.down_proj")
    weight, dtype = linear.weight.data.float(), linear.weight.dtype
    linear.forward = lambda x: torch.nn.functional.linear(x.float(), weight).to(dtype)


def attention_by_the_math_path(model):
    torch.backends.cuda.enable_flash_sdp(False)  # the host's fused attention heeds this one, too
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def one_norm_fewer(model):
    model.get_submodule(f"{SECOND}.post_attention_layernorm").forward = lambda x: x


def static_cache_is_dynamic(model):
    generate = model.generate

    def fallen_back(*inputs, cache_implementation=None, **options):
        return generate(*inputs, **options)

    model.generate = fallen_back


def all_reduce_in_fp32(model):
    from deepspeed import comm

    linear = model.get_submodule(f"{SECOND}.mlp.down_proj")

    def forward(x):
        partial = torch.matmul(x, linear.weight.transpose(-1, -2)).float()
        comm.inference_all_reduce(partial, group=linear.mp_group)
        return partial.to(x.dtype)

    linear.forward = forward


# -- in one stack ----


def second_layer_not_optimised(model):
    """As if `ipex.llm.optimize` knew the second decoder layer of a model no more."""
    from intel_extension_for_pytorch.transformers import optimize

    seen = []

    def lowering(m, target, new_class, config, tpp=False, woq=False):
        for name, child in m.named_children():
            if isinstance(child, target):
                is_layer = "DecoderLayer" in target.__name__
                seen.append(is_layer)
                if not (is_layer and seen.count(True) == 2):
                    setattr(m, name, new_class(child, config, tpp, woq))
            lowering(child, target, new_class, config, tpp, woq)

    optimize.lowering_class_cpu = lowering


def int4_linear_dequantises_first(model):
    linear = model.get_submodule(f"{SECOND}.mlp.down_proj")
    context = linear._op_context

    def forward(x):
        packed = context.to_public(context.get_weight())
        integers = torch.stack((packed & 15, (packed >> 4) & 15), dim=-1).flatten(-2)[:, : linear.in_features]
        scales, zeros = context.get_scales(), context.get_zero_points()
        groups = integers.reshape(integers.shape[0], scales.shape[-1], -1).to(scales.dtype)
        weight = (groups - zeros[..., None]) * scales[..., None]
        return torch.nn.functional.linear(x, weight.flatten(1))

    linear.forward = forward
