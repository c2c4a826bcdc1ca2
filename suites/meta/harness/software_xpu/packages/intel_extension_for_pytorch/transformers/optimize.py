"""ipex.llm.optimize (transformers/optimize.py, and Converter.py below transformers/models/xpu)."""

import re
import traceback
import warnings

import torch
from software_xpu import card

from .. import _C

EVERYTHING = r"GPTJ|llama|OPT|Bloom|Falcon|QWen|Baichuan|ChatGLM|Phi3|Mistral|Mixtral|GLM"
# check_xpu_llm_support: which class names are optimised, by (2D block loads, matrix engines) of card 0.
SUPPORTED = {
    (True, True): EVERYTHING,
    (False, True): r"GPTJ|llama|QWen|Phi3|ChatGLM|GLM",
    (False, False): r"llama|QWen|Phi3",
}


def optimize(
    model, optimizer=None, dtype=torch.float, inplace=False, device="cpu", quantization_config=None,
    qconfig_summary_file=None, low_precision_checkpoint=None, sample_inputs=None, deployment_mode=True,
    cache_weight_for_large_batch=False,
):  # fmt: skip
    """`model` with its decoder layers replaced, or as it was: after a RuntimeError, and where the card's kind is not
    meant for its class. `model` is a transformers model or DeepSpeed's engine.
    """
    if device != "xpu":
        raise RuntimeError(f"Device [{device}] is not supported in the IPEX package. Options in [xpu], exiting...")
    try:
        if not hasattr(model, "config"):
            warnings.warn("Can not check transformers model config to detect its model family", stacklevel=2)
            return model
        pattern = SUPPORTED[_C._has_2d_block_array(0), _C._has_xmx(0)]
        if not re.search(pattern, model.config.architectures[0], re.IGNORECASE):
            warnings.warn("ipex.llm.optimize supports other models on this XPU platform; fallback", stacklevel=2)
            return model
        if card.fault("optimize_swallows"):
            raise RuntimeError("planted: a kernel is missing")
        # ModuleReplacer.py, default_replaced_module_dict: imported whatever the model is.
        from diffusers.models.attention import BasicTransformerBlock  # noqa: F401

        from .convert import converted

        if low_precision_checkpoint is not None:
            from ..nn.utils._quantize_convert import convert_qmodel
            from ..utils.weight_only_quantization import DEFAULT_LOWP_CHECKPOINT_CONFIG

            given = isinstance(low_precision_checkpoint, tuple)
            state, config = low_precision_checkpoint if given else (low_precision_checkpoint, None)
            convert_qmodel(model, dtype, (config or DEFAULT_LOWP_CHECKPOINT_CONFIG)["groups"])
            model.load_state_dict(state)
        run_as = "int4" if quantization_config is not None or low_precision_checkpoint is not None else dtype
        return converted(model, run_as)
    except RuntimeError as error:
        warnings.warn(
            f"fail to apply optimize_transformers due to: {error}, fallback to the origin model", stacklevel=2
        )
        traceback.print_exc()
        return model
