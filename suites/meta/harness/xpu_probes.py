"""What tests ask of the stand-in interpreter: `python -m suites.meta.harness.xpu_probes NAME` prints a JSON object.

Each probe is a process of its own, since IPEX keeps much of its state once per process.
"""

import contextlib
import json
import os
import sys
import warnings

import torch

CARD = "xpu"
IDS = [[7, 301, 12, 45, 99, 260, 18, 33]]
RUNS = {
    "dynamic": {},
    "dynamic, beams": {"num_beams": 4},
    "static": {"cache_implementation": "static", "disable_compile": True},
    "static, beams": {"num_beams": 4, "cache_implementation": "static", "disable_compile": True},
}


def said(call):
    """ "Class: message" of what a call raises, "" where it raises nothing."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def model_of(family="Llama", dtype=torch.float32, **changes):
    """A stock model of a few thousand weights, the same in every process."""
    import transformers

    torch.manual_seed(11)
    sizes = {"vocab_size": 320, "num_hidden_layers": 2, "eos_token_id": None, "bos_token_id": 1, "pad_token_id": 0}
    wide = {"hidden_size": 128, "num_attention_heads": 4, "initializer_range": 0.1}
    shapes = {
        "GPTJ": {"n_embd": 128, "n_head": 4, "n_layer": 2, "rotary_dim": 16, "initializer_range": 0.1},
        "OPT": {**wide, "ffn_dim": 256, "word_embed_proj_dim": 128},
        "Bloom": {"hidden_size": 128, "n_head": 4, "n_layer": 2, "initializer_range": 0.1},
        "Glm": {**wide, "intermediate_size": 256, "num_key_value_heads": 2, "head_dim": 32},
    }
    shape = shapes.get(family, {**wide, "intermediate_size": 256, "num_key_value_heads": 2})
    config = getattr(transformers, f"{family}Config")(**{**sizes, **shape, **changes})
    name = f"{family}ForCausalLM"
    config.architectures = [name]
    return getattr(transformers, name)(config).eval().to(dtype)


def generated(model, ids, new_tokens=6, mask=None, **options):
    """Tokens of one greedy generate(), on the host."""
    ids = torch.as_tensor(ids).to(model.device)
    mask = torch.ones_like(ids) if mask is None else torch.as_tensor(mask).to(model.device)
    with torch.inference_mode():
        return model.generate(
            ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, **options
        ).cpu()


def last_logits(model, ids, cache="dynamic", mask=None):
    """Logits [rows, vocabulary] of the second token that is generated, on the host."""
    options = RUNS[cache] | {"output_logits": True, "return_dict_in_generate": True}
    ids = torch.as_tensor(ids).to(model.device)
    mask = torch.ones_like(ids) if mask is None else torch.as_tensor(mask).to(model.device)
    with torch.inference_mode():
        found = model.generate(ids, attention_mask=mask, max_new_tokens=2, do_sample=False, pad_token_id=0, **options)
    return found.logits[-1].float().cpu()


def optimised(model, **options):
    """(the optimised model, texts of warnings)."""
    import intel_extension_for_pytorch as ipex

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ipex.llm.optimize(model.to(CARD), device=CARD, inplace=True, **{"dtype": torch.float32, **options})
    return model, [str(warning.message) for warning in caught]


def classes(model):
    return sorted({type(module).__name__ for module in model.modules()})


def far(left, right):
    """The largest difference of two tensors."""
    return float((left.float() - right.float()).abs().max())


# -- the card ----


def strictness():
    import numpy as np

    on, off = torch.ones(2, 3, device=CARD), torch.ones(2, 3)
    return {
        "add": said(lambda: on + off),
        "linear": said(lambda: torch.nn.functional.linear(off, on)),
        "indexed by a card": said(lambda: off[torch.zeros(1, dtype=torch.long, device=CARD)]),
        "indexed by the host": said(lambda: on[torch.zeros(1, dtype=torch.long)]),
        "scalar": said(lambda: on + torch.tensor(2.0)),
        "numpy": said(on.numpy),
        "asarray": said(lambda: np.asarray(on)),
        "back": said(lambda: on.cpu().numpy()),
        "devices": [str(on.device), on.is_xpu, on.get_device(), str((on @ on.T).device), str(on.to("cpu").device)],
        "second card": said(lambda: torch.ones(1, device="xpu:5")),
    }


def parameters():
    layer = torch.nn.Linear(3, 3).to(CARD)
    copy = torch.nn.Parameter(torch.ones(3, device=CARD))
    layer.weight.data = torch.zeros(3, 3, device=CARD, dtype=torch.float16)
    return {"devices": [str(t.device) for t in (layer.weight, layer.bias, copy)], "type": type(layer.weight).__name__}


def memory():
    held = torch.empty(2**18, device=CARD)
    before = torch.xpu.memory_allocated()
    failed = said(lambda: torch.empty(2**24).to(CARD))
    is_oom = "OutOfMemoryError" in failed
    peak = torch.xpu.max_memory_allocated()
    del held
    total = torch.xpu.get_device_properties(0).total_memory
    free = said(torch.xpu.mem_get_info)
    after = torch.xpu.memory_allocated()
    return {"before": before, "peak": peak, "after": after, "oom": failed, "is": is_oom, "total": total, "info": free}


def beside():
    """Memory that another process holds counts, too."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        kept = torch.empty(3 * 2**20, dtype=torch.int8, device=CARD)
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(kept.numel() == 0)
    os.read(ready[0], 1)
    held = said(lambda: torch.empty(6 * 2**20, dtype=torch.int8, device=CARD))
    os.write(go[1], b".")
    os.waitpid(child, 0)
    return {"held": held, "gone": said(lambda: torch.empty(6 * 2**20, dtype=torch.int8, device=CARD))}


def fork():
    """What a child can do with the card after its parent did not ask, and after it did."""
    found = {}
    for when in ("before", "after"):
        if when == "after":
            torch.xpu.is_available()
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            message = said(lambda: torch.ones(1, device=CARD))
            os.write(write, f"{torch.xpu._is_in_bad_fork()} {message}".encode() + b"\n")
            os._exit(0)
        os.waitpid(child, 0)
        found[when] = os.read(read, 1000).decode().strip()
    return found


def names():
    return {"names": [torch.xpu.get_device_name(i) for i in range(torch.xpu.device_count())]}


def lost():
    tensor, steps, message = torch.ones(1, device=CARD), 0, ""
    while not message and steps < 100:
        steps += 1
        message = said(lambda: tensor + 1)
    return {"steps": steps, "message": message, "wait": said(torch.xpu.synchronize)}


def waiting():
    from software_xpu.install import pending

    tensor = torch.ones(3, device=CARD)
    tensor = tensor + 1
    submitted = pending()
    torch.xpu.synchronize()
    return {"submitted": submitted, "after": pending()}


def llama():
    model = model_of()
    host = {name: generated(model, IDS, **options).tolist() for name, options in RUNS.items()}
    model = model.to(CARD)
    card = {name: generated(model, IDS, **options).tolist() for name, options in RUNS.items()}
    return {name: host[name] == card[name] for name in RUNS}


# -- IPEX ----


def engine():
    import intel_extension_for_pytorch as ipex

    before = ipex._C._get_compute_eng()
    os.environ["IPEX_COMPUTE_ENG"] = "2"
    return {"before": before, "after": ipex._C._get_compute_eng()}


def families():
    found = {}
    for family in ("Llama", "GPTJ", "OPT", "Bloom", "Mistral", "Qwen2", "Qwen3", "Phi3", "Glm"):
        model = model_of(family)
        stock = last_logits(model, IDS)
        model, _ = optimised(model)
        blocks = [name for name in classes(model) if "IPEX" in name and "LmHead" not in name]
        found[family] = [blocks, far(stock, last_logits(model, IDS))]
    return found


def positions():
    model, _ = optimised(model_of())
    with torch.inference_mode():
        return {"shape": list(model(torch.tensor(IDS).to(CARD)).logits.shape)}


def eos():
    model, _ = optimised(model_of())
    static = RUNS["static, beams"]
    return {
        "none": said(lambda: generated(model, IDS, **static)),
        "one": said(lambda: generated(model, IDS, eos_token_id=319, **static)),
        "dynamic": said(lambda: generated(model, IDS, **RUNS["dynamic, beams"])),
    }


def caches():
    model = model_of()
    stock = last_logits(model, IDS, "static")
    del model._cache  # transformers would go on with the one on the host
    model, _ = optimised(model)
    fresh = far(stock, last_logits(model, IDS, "static"))
    from intel_extension_for_pytorch.transformers.state import IPEXAttention

    IPEXAttention.cache_type = None  # as in a new process
    last_logits(model, IDS)
    return {"fresh": fresh, "after dynamic": far(stock, last_logits(model, IDS, "static"))}


def padding():
    ids, mask = [[0, 0, 0, *IDS[0]]], [[0, 0, 0, *[1] * len(IDS[0])]]
    model = model_of()
    stock = last_logits(model, ids, mask=mask)
    model, _ = optimised(model)
    return {"padded": far(stock, last_logits(model, ids, mask=mask))}


def scores_of_gptj():
    model, _ = optimised(model_of("GPTJ"))
    rows = torch.tensor(IDS).to(CARD)
    with torch.inference_mode():
        return {"one": said(lambda: model(rows)), "three": said(lambda: model(rows.repeat(3, 1)))}


def optimiser():
    """What `optimize` leaves of a model of each of two families."""
    found = {}
    for family in ("Llama", "GPTJ"):
        model, texts = optimised(model_of(family))
        devices = sorted({str(parameter.device) for parameter in model.parameters()})
        logits = said(lambda model=model: last_logits(model, IDS))
        found[family] = {"classes": classes(model), "warnings": texts, "devices": devices, "runs": logits}
    return found


def int4():
    """neural-compressor's own path to a card, before and after the optimiser."""
    import tempfile

    from neural_compressor.transformers import AutoModelForCausalLM, RtnConfig

    stock = model_of(dtype=torch.float16)
    with tempfile.TemporaryDirectory() as folder:
        stock.save_pretrained(folder)
        config = RtnConfig(compute_dtype="fp16", weight_dtype="int4_fullrange", scale_dtype="fp16", group_size=64)
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, device_map=CARD, torch_dtype=torch.float16
        )
    first = model.model.layers[0].self_attn.q_proj
    zeros = None if first.qzeros is None else [str(first.qzeros.dtype), first.qzeros.tolist()]
    before = last_logits(model, IDS)
    model, _ = optimised(model, quantization_config=config)
    every = [m for m in model.modules() if type(m).__name__ == "WeightOnlyQuantizedLinear"]
    plain = [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]
    owners = [m for m in every if m.qweight is not None]
    return {
        "zeros": zeros, "all": len(every), "owners": len(owners), "plain": plain, "emptied": first.qweight is None,
        "parameter": isinstance(owners[0].qweight, torch.nn.Parameter), "moved": far(before, last_logits(model, IDS)),
        "to stock": far(last_logits(stock, IDS), before),
    }  # fmt: skip


def sharded(given):
    """A rank's view of AutoTP: the optimiser gets DeepSpeed's `given`, "engine" or "module"."""
    import deepspeed
    import torch.distributed as dist

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.xpu.set_device(rank)
    model = model_of(dtype=torch.float16)
    whole = last_logits(model.to(CARD), IDS)
    deepspeed.init_distributed(dist_backend="xccl", verbose=False)
    engine = deepspeed.init_inference(
        model.to("cpu"), tensor_parallel={"tp_size": ranks}, dtype=torch.float16, replace_with_kernel_inject=False
    )
    model, _ = optimised(engine if given == "engine" else engine.module, dtype=torch.float16)
    model = getattr(model, "module", model)
    block = next(module for module in model.modules() if hasattr(module, "ipex_config"))
    calls, real = [], dist.all_reduce
    dist.all_reduce = lambda tensor, *args, **options: (calls.append(tensor.numel()), real(tensor, *args, **options))
    with torch.inference_mode():
        raised = said(lambda: model(torch.tensor(IDS).to(CARD)))
    found = {"tp_size": block.ipex_config.tp_size, "group": block.ipex_config.tp_group is not None, "raised": raised}
    found |= {"all_reduces": len(calls), "backend": dist.get_backend(), "device": str(model.device)}
    if not raised:
        found["off"] = far(whole, last_logits(model, IDS))
    host = said(lambda: real(torch.ones(1)))
    return found | {"host tensor": host, "rank": rank}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answer = globals()[sys.argv[1]](*sys.argv[2:])
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # taking a group of ranks down in order takes seconds
