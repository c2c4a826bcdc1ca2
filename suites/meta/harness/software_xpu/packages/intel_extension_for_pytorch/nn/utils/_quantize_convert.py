"""The weight-only linear of a card, as neural-compressor makes it (nn/utils/_quantize_convert.py)."""

import torch

NIBBLES = 8  # 4-bit numbers in an int32
MIDDLE = 8  # the integer that stands for zero where the scheme is symmetric
ONE_MORE = 0x11111111  # adds one to each of a word's eight numbers


def xpu_gemm_use_xetla():
    """Whether INT4 runs on XeTLA: asked for, on a card with matrix engines and 2D loads; oneDNN otherwise."""
    if torch.xpu.has_xmx() and torch.xpu.has_2d_block_array():
        return torch.xpu.get_compute_eng() == torch.xpu.XPUComputeEng.XETLA
    return torch.xpu.get_compute_eng() in (torch.xpu.XPUComputeEng.RECOMMEND, torch.xpu.XPUComputeEng.XETLA)


class ParamsLowBits(torch.nn.Parameter):
    """The packed integers: a Parameter, of integers."""

    def __new__(cls, data=None, requires_grad=False, **_):
        return torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)


class WeightOnlyQuantizedLinear(torch.nn.Module):
    """qweight int32 [in / 8, out], a Parameter; scales [in / group, out] and qzeros, buffers; bias.

    qzeros is None on XeTLA where the scheme is symmetric, and int8 [8] on oneDNN, whatever the checkpoint holds. Both
    engines want another layout than the checkpoint's, to which the first call changes; where the scheme is asymmetric
    it adds one to every zero, to those of oneDNN by a word that an int8 cuts to its lowest byte, and on XeTLA once
    more. g_idx, where it is not that of neighbours, is the order in which kernels gather their inputs, and only
    set_weights_bias makes such an order of a checkpoint's groups: not where update_g_idx is False.
    """

    def __init__(
        self, in_features, out_features, bias=True, compute_dtype="fp32", compress_statistics=True,
        weight_dtype="int4_fullrange", scale_dtype="fp16", blocksize=64, scheme="sym", double_quant_scale_dtype=None,
        compression_dtype=torch.int32, compression_dim=1, device=None, use_optimum_format=False, quant_method=0,
        act_quant_mode=-1,
    ):  # fmt: skip
        super().__init__()
        assert compute_dtype in ("fp32", "fp16"), "compute_dtype must be 'fp32', 'fp16'."
        assert scale_dtype in ("fp16", "fp32"), "scale_dtype only support 'fp32', 'fp16'. now."
        self.in_features, self.out_features = in_features, out_features
        self.blocksize = blocksize if blocksize != -1 else in_features
        self.compute_dtype, self.weight_dtype, self.scale_dtype = compute_dtype, weight_dtype, scale_dtype
        self.scheme, self.use_optimum_format = scheme, use_optimum_format
        self.weight_transposed = False
        self.register_parameter("qweight", None)
        self.register_parameter("bias", None)
        self.register_buffer("g_idx", None)

    def set_scales_zps_gidx(self, scales, qzeros=None, g_idx=None, quant_method=0):
        self.register_buffer("scales", scales)
        self.register_buffer("qzeros", qzeros)
        if not xpu_gemm_use_xetla():
            self.qzeros = torch.tensor([MIDDLE], dtype=torch.int8).to("xpu")
        elif self.scheme == "sym":
            self.qzeros = None
        else:
            self.qzeros += ONE_MORE
        if g_idx is not None and g_idx.tolist() != [i // self.blocksize for i in range(self.in_features)]:
            self.g_idx = g_idx

    def set_weights_bias(self, weight_data, bias=None, update_g_idx=True):
        self.qweight = ParamsLowBits(weight_data)
        if bias is not None:
            self.bias = torch.nn.Parameter(bias.contiguous(), requires_grad=False)
        if self.g_idx is not None and update_g_idx:  # GPTQShuffle; nothing of the suite's comes here
            raise NotImplementedError("the stand-in shuffles no weights")

    @property
    def transposed(self):
        return self.weight_transposed and xpu_gemm_use_xetla()

    def integers(self):
        """[in, out] 0 to 15, from either layout."""
        packed = self.qweight.t() if self.transposed else self.qweight
        shifts = torch.arange(0, 4 * NIBBLES, 4, dtype=torch.int32, device=packed.device)
        unpacked = (packed[:, None, :] >> shifts[None, :, None]) & 15
        return unpacked.reshape(-1, packed.shape[1])[: self.in_features]

    def dequantised(self):
        """Weights [out, in] in the scales' dtype."""
        scales = self.scales.t() if self.transposed else self.scales
        groups = scales.repeat_interleave(self.blocksize, 0)[: self.in_features]
        return ((self.integers() - self.zeros()).to(groups.dtype) * groups).t()

    def zeros(self):
        """What is subtracted: one number, or [in, out]."""
        if self.qzeros is None:
            return MIDDLE
        if self.qzeros.numel() == 1:
            return int(self.qzeros)
        shifts = torch.arange(0, 4 * NIBBLES, 4, dtype=torch.int32, device=self.qzeros.device)
        unpacked = ((self.qzeros[:, :, None] >> shifts) & 15).reshape(self.qzeros.shape[0], -1)
        return unpacked[:, : self.out_features].repeat_interleave(self.blocksize, 0)[: self.in_features]

    def lay_out(self):
        """Change to the layout of the engine: on XeTLA weights and scales have `in` last, oneDNN has other strides."""
        if not self.weight_transposed:
            if self.scheme != "sym":
                self.qzeros += ONE_MORE
            if xpu_gemm_use_xetla():
                self.qweight.data = self.qweight.t().contiguous()
                self.scales.data = self.scales.t().contiguous().to(torch.float16)
        self.weight_transposed = True

    def forward(self, hidden):
        self.lay_out()
        if self.compute_dtype == "fp16":
            hidden = hidden.to(torch.float16)
        if self.g_idx is not None:
            hidden = hidden[..., self.g_idx]
        weight = self.dequantised().to(hidden.dtype)
        return torch.nn.functional.linear(hidden, weight, None if self.bias is None else self.bias.to(hidden.dtype))


def convert_qmodel(model, dtype, group_size):
    """For low_precision_checkpoint: it passes names that the class above does not take."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                sizes = dict(in_features=child.in_features, out_features=child.out_features)
                linear = WeightOnlyQuantizedLinear(
                    **sizes, group_size=group_size, bias=child.bias is not None, dtype=dtype
                )
                setattr(module, name, linear)
    return model
