"""Configurations of low-precision checkpoints (utils/weight_only_quantization.py), each by its method.

There is none of the name DEFAULT_LOWP_CHECKPOINT_CONFIG, which ipex.llm.optimize wants for a card.
"""

GPTQ_LOWP_CHECKPOINT_CONFIG = {"name": "gptq", "weight_key": "qweight", "scale_key": "scales"}
