"""What upstream's extension module tells about the card and the process (csrc/xpu/Module.cpp, csrc/gpu/utils)."""

import os

from software_xpu import card
from software_xpu.install import has_2d_block_array, has_xmx

# csrc/gpu/utils/Settings.cpp: the settings are a static object, which reads its variables when the library is loaded.
# A value it does not know counts as 0, without a word.
_ASKED = os.environ.get("IPEX_COMPUTE_ENG", "0")
_COMPUTE_ENG = int(_ASKED) if _ASKED in ("0", "1", "2", "3", "4") else 0
RECOMMEND, BASIC, ONEDNN, ONEMKL, XETLA = range(5)


def _has_xpu():
    return True


def _get_compute_eng():
    """The engine in force, 0 to 4."""
    if card.fault("wrong_int4_engine"):
        return ONEDNN if _COMPUTE_ENG == XETLA else XETLA
    return _COMPUTE_ENG


def _has_xmx(device):
    return has_xmx(device)


def _has_2d_block_array(device):
    return has_2d_block_array(device)
