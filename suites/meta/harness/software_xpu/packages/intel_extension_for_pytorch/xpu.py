"""What IPEX adds to torch.xpu (xpu/__init__.py, xpu/utils.py)."""

import enum

import torch

from . import _C


class XPUComputeEng(enum.IntEnum):
    RECOMMEND = 0
    BASIC = 1
    ONEDNN = 2
    ONEMKL = 3
    XETLA = 4


def get_compute_eng():
    return XPUComputeEng(_C._get_compute_eng())


torch.xpu.XPUComputeEng = XPUComputeEng
torch.xpu.get_compute_eng = get_compute_eng
torch.xpu.has_xmx = lambda device=0: _C._has_xmx(device)
torch.xpu.has_2d_block_array = lambda device=0: _C._has_2d_block_array(device)
