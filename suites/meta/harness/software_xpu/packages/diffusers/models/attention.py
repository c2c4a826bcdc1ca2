"""Stands for diffusers.models.attention."""


class BasicTransformerBlock:
    """IPEX keeps the class as a key of its table of layers, and never makes one."""
