"""Faults that the suite's own tests plant in a group of ranks; each runs in every rank, where the recipe calls it.

As in suites.meta.faults.model, functions take the loaded model (None where they run first) and return it, or None.
"""

import copy
import os
import signal
import socket
import time

import torch

from fixtures import transformers_api
from fixtures.engine import ranks

from .model import head_zeroed  # noqa: F401 - planted in groups, too

MARK_OF_ROW_PARALLEL = "Allreduce"  # in the names of DeepSpeed's classes


def _rank():
    return int(os.environ["RANK"])


def _sharding(change):
    """Have `change(whole, sharded)` decide what sharding returns."""
    honest = ranks.shard

    def shard(model, *arguments):
        whole = copy.deepcopy(model)
        engine = honest(model, *arguments)
        engine.module = change(whole, engine.module)
        return engine

    ranks.shard = shard


# -- what ranks hold ----


def full_copies(model):
    """Every rank keeps the whole model and selects nobody: copies that pass as tensor parallelism."""
    _sharding(lambda whole, sharded: whole)


def full_copy_on_rank_1(model):
    _sharding(lambda whole, sharded: whole if _rank() == 1 else sharded)


def one_all_reduce_skipped(model):
    """The first row-parallel linear keeps its partial sums to itself, on every rank."""

    def skip(whole, sharded):
        first = next(module for module in sharded.modules() if MARK_OF_ROW_PARALLEL in type(module).__name__)
        first.mp_group = None
        return sharded

    _sharding(skip)


def heads_on_the_wrong_rank(model):
    """Queries, keys and values of one layer go to the other rank, the output projection's columns do not."""
    attention = model.get_submodule("model.layers.0.self_attn")
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight.data = projection.weight.data.roll(projection.weight.shape[0] // 2, 0)


def seeded_differently(model):
    """Rank 1 draws weights of its own."""
    torch.manual_seed(_rank())
    for parameter in model.parameters() if _rank() else ():
        parameter.data = torch.randn_like(parameter) * parameter.std()


# -- by transformers' plan ----


def plan_ignored(model):
    """Every rank loads the whole model."""
    transformers_api.sharding = lambda device_type, ranks: {}


def mlp_left_out_of_the_plan(model):
    """The linears of the MLPs stay whole; the answers are right."""
    from transformers import LlamaConfig

    plan = LlamaConfig.base_model_tp_plan
    LlamaConfig.base_model_tp_plan = {name: style for name, style in plan.items() if ".mlp." not in name}


def one_partial_sum_not_added_up(model):
    """The first output projection keeps its partial sums to itself, on every rank."""
    from torch.distributed import _functional_collectives

    projection, inside = model.get_submodule("model.layers.0.self_attn.o_proj"), []
    projection.register_forward_pre_hook(lambda *_: inside.append(True))
    projection.register_forward_hook(lambda *_: inside.clear())
    for module in (torch.distributed, _functional_collectives):
        module.all_reduce = _kept(module.all_reduce, inside)


def _kept(honest, inside):
    return lambda tensor, *arguments, **options: tensor if inside else honest(tensor, *arguments, **options)


# -- ranks that stop ----


def _at_all_reduce(number, act):
    """Have rank 1 `act` at its all-reduce of that number, counted from here."""
    from deepspeed import comm

    honest, calls = comm.inference_all_reduce, []

    def all_reduce(*arguments, **options):
        calls.append(None)
        if len(calls) == number and _rank() == 1:
            act()
        return honest(*arguments, **options)

    comm.inference_all_reduce = all_reduce


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_prefill(model):
    _at_all_reduce(2, _die)


def killed_in_decode(model):
    """Miniatures have two layers, so a step makes five calls at most and the eleventh is no prefill's."""
    _at_all_reduce(11, _die)


def asleep_in_decode(model):
    _at_all_reduce(11, lambda: time.sleep(3600))


# -- ranks that do not meet ----


def never_arrives(model):
    if _rank() == 1:
        time.sleep(3600)


def wrong_world(model):
    if _rank() == 1:
        os.environ["WORLD_SIZE"] = "3"


_taken = []


def port_taken(model):
    """Another program listens where the ranks want to meet."""
    if _rank() == 0:
        _taken.append(socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"]))))


# -- what proves the cause of a waiver ----


def inverse_frequencies_restored(model):
    """Rope's inverse frequencies in fp32 again, which DeepSpeed casts to the model's precision."""
    restored = 0
    for module in model.modules():
        if hasattr(module, "original_inv_freq"):
            module.inv_freq = module.original_inv_freq.float()
            restored += 1
    assert restored, "no inverse frequencies found"


def phi3_fixed(model):
    """A rank's own number of heads in Phi-3's configuration, by which it cuts its fused projection; and its rope."""
    model.config.num_attention_heads //= int(os.environ["WORLD_SIZE"])
    model.config.num_key_value_heads //= int(os.environ["WORLD_SIZE"])
    inverse_frequencies_restored(model)
