"""Checkpoints as users bring them, made by `save_pretrained` at a small size, and the row that each gets of its user.

Sizes are small, everything else is as published: classes, generation settings, types, files. Functions that take a
`service` run inside a worker.
"""

import dataclasses
import json
import shutil

from fixtures.matrix import config_entries
from fixtures.matrix.loader import FOLDER

SIZES = "layers = 2, hidden = 512, intermediate = 1024, vocabulary = 1024"
GROUPED = f"{SIZES}, heads = 8, kv_heads = 2, head_dim = 64, rotary_dims = 64"
PLAIN = f"{SIZES}, heads = 8, kv_heads = 8, head_dim = 64, rotary_dims = 64"
PHI = "layers = 2, hidden = 384, intermediate = 768, vocabulary = 1024, heads = 4, kv_heads = 4"  # heads of 96 stay
SAMPLED = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}


@dataclasses.dataclass(frozen=True)
class Published:
    """One checkpoint: the row that its own is like, its sizes, and what its user did.

    precision: of the cell that is run; generation: entries of generation_config.json; stored: type of the numbers;
    shard: size at which files are split; spoil: function of this module, called with the folder once it is saved.
    """

    like: str
    geometry: str = GROUPED
    precision: str = "bf16"
    generation: dict = dataclasses.field(default_factory=dict)
    stored: str = "bfloat16"
    shard: str = "5GB"
    spoil: str = ""


CHECKPOINTS = {
    "llama-3-with-three-eos": Published("llama-3-8b", generation={**SAMPLED, "eos_token_id": [2, 3, 4]}),
    "qwen2-with-repetition-penalty": Published(
        "qwen2-7b-instruct",
        f"{GROUPED}, tied_embeddings = true",
        generation={**SAMPLED, "repetition_penalty": 1.05, "top_k": 20},
    ),
    "phi-3-with-longrope": Published("phi-3.5-mini", PHI, generation={"eos_token_id": [2, 3, 4]}),
    "mistral-with-window": Published("mistral-7b", f"{GROUPED}, sliding_window = 2048"),
    "llama-2-stored-in-bf16": Published("llama-2-7b", PLAIN, "int4"),
    "llama-2-stored-in-fp16": Published("llama-2-7b", PLAIN, "int4", stored="float16"),
    "llama-3-tied": Published("llama-3.2-1b", GROUPED, generation=SAMPLED),
    "llama-2-sharded-in-fp16": Published("llama-2-7b", PLAIN, stored="float16", shard="3MB"),
    "llama-2-with-added-tokens": Published("llama-2-7b", PLAIN, spoil="add_tokens"),
    "llama-2-exported-by-gptq": Published("llama-2-7b", PLAIN, "int4", spoil="export_gptq"),
    "llama-2-tuned-elsewhere": Published("llama-2-7b", PLAIN, spoil="rename_class"),
}


def row_of(name):
    """The table that the user of a checkpoint appends to models.toml."""
    made = CHECKPOINTS[name]
    return f"""
[models.{name}]
like = "{made.like}"
hub_id = "nobody/{name}"
gated = false
geometry = {{ {made.geometry} }}
"""


def write_matrix(folder):
    """A copy of the shipped matrix with a row for each checkpoint."""
    for file in FOLDER.glob("*.toml"):
        shutil.copy(file, folder)
    with (folder / "models.toml").open("a") as models:
        models.writelines(map(row_of, CHECKPOINTS))


def entries_of(model):
    """config.json entries of a row, ready to be sent to a worker."""
    return {"model_type": model.arch.model_type, **config_entries(model)}


def save(service, name, folder, entries, geometry):
    """Save the checkpoint `name` with seeded weights, as `save_pretrained` of model and tokenizer does."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from fixtures.weights.configuration import configuration
    from fixtures.weights.tensors import fill
    from fixtures.weights.tokenizer import miniature_tokenizer, special_ids

    made, tokenizer = CHECKPOINTS[name], miniature_tokenizer(geometry["vocabulary"])
    model = AutoModelForCausalLM.from_config(configuration(entries))
    fill(model, geometry)
    model.tie_weights()
    model.generation_config = GenerationConfig(**{**special_ids(), **made.generation})
    model.to(getattr(torch, made.stored)).save_pretrained(folder, max_shard_size=made.shard)
    tokenizer.save_pretrained(folder)
    if made.spoil:
        globals()[made.spoil](folder, model, tokenizer)


def _change(folder, **entries):
    path = f"{folder}/config.json"
    with open(path) as file:
        found = json.load(file)
    with open(path, "w") as file:
        json.dump({**found, **entries}, file)


def add_tokens(folder, model, tokenizer):
    """Tokens of a chat format, without model.resize_token_embeddings."""
    tokenizer.add_tokens([f"<|slot_{n}|>" for n in range(1024 - len(tokenizer) + 2)], special_tokens=True)
    tokenizer.save_pretrained(folder)


def export_gptq(folder, model, tokenizer):
    """The linears of the layers as GPTQ writes them: packed integers, scales and zeros in place of weights."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from fixtures.weights.int4_format import round_to_nearest, write_gptq

    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("_proj.weight"):
            tables = write_gptq(round_to_nearest(tensor.float().numpy(), 128, "asymmetric"))
            stem = name.removesuffix(".weight")
            tensors |= {f"{stem}.{table}": torch.from_numpy(array) for table, array in tables.items()}
            tensors[f"{stem}.g_idx"] = torch.from_numpy(np.arange(tensor.shape[1], dtype=np.int32) // 128)
        else:
            tensors[name] = tensor.half().contiguous()
    save_file(tensors, f"{folder}/model.safetensors", {"format": "pt"})
    declared = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": False}
    _change(folder, quantization_config=declared, torch_dtype="float16")


def rename_class(folder, model, tokenizer):
    """The name of a training framework's own class, which no library knows."""
    _change(folder, architectures=["TunedLlamaForCausalLM"])
