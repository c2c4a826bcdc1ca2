"""Products of the reference in sixteen bits by fp32 kernels: what they give, and which models get them."""

import contextlib
import types

import pytest

DTYPES = ["bfloat16", "float16"]
PRODUCTS = {
    "linear": lambda torch, x, w, b: torch.nn.functional.linear(x, w.mT, b),
    "matmul": lambda torch, x, w, b: torch.matmul(x, w),
    "@": lambda torch, x, w, b: x @ w,
    "bmm": lambda torch, x, w, b: x[None].bmm(w[None])[0],
    "addmm": lambda torch, x, w, b: torch.addmm(b, x, w),
    "baddbmm": lambda torch, x, w, b: b.expand(1, 9, 24).baddbmm(batch1=x[None], batch2=w[None], beta=1, alpha=1)[0],
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_is_the_exact_one_rounded_once(product, dtype):
    import torch

    from fixtures.engine.half_gemm import Fp32Gemm

    draw = torch.Generator().manual_seed(5)
    operands = [torch.randn(shape, generator=draw).to(getattr(torch, dtype)) for shape in ((9, 300), (300, 24), (24,))]
    exact = PRODUCTS[product](torch, *(operand.double() for operand in operands))
    with Fp32Gemm():
        found = PRODUCTS[product](torch, *operands)
    assert found.dtype is operands[0].dtype
    # Half a step of the type, and what the order of 300 sums of fp32 leaves.
    steps = torch.finfo(found.dtype).eps / 2
    assert (found.double() - exact).abs().sub(exact.abs() * steps).max() <= 1e-5


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_kernel_is_that_of_fp32(product):
    import torch
    from torch.overrides import TorchFunctionMode

    from fixtures.engine.half_gemm import Fp32Gemm

    seen = []

    class Kernels(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.extend(each.dtype for each in (*args, *(kwargs or {}).values()) if isinstance(each, torch.Tensor))
            return func(*args, **(kwargs or {}))

    operands = [torch.ones(shape, dtype=torch.bfloat16) for shape in ((9, 300), (300, 24), (24,))]
    with Kernels(), Fp32Gemm():
        PRODUCTS[product](torch, *operands)
    assert torch.float32 in seen


def test_types_that_do_not_go_together_stay_an_error():
    import torch

    from fixtures.engine.half_gemm import Fp32Gemm

    half, wide = torch.ones(9, 9, dtype=torch.bfloat16), torch.ones(9, 9)
    for other in (wide, wide.half()):
        with Fp32Gemm(), pytest.raises(RuntimeError):
            torch.nn.functional.linear(half, other)


def test_a_product_into_a_tensor_is_written_there():
    import torch

    from fixtures.engine.half_gemm import Fp32Gemm

    half, out = torch.ones(9, 9, dtype=torch.bfloat16), torch.zeros(9, 9, dtype=torch.bfloat16)
    with Fp32Gemm():
        torch.matmul(half, half, out=out)
    assert (out == 9).all()


@pytest.mark.parametrize(
    ("changed", "fp32_kernels"),
    [
        ({}, True),
        ({"stock": False}, False),  # the candidate computes by its users' kernels
        ({"device_type": "cuda"}, False),
        ({"dtype": "float32"}, False),
        ({"native": True}, False),
    ],
)
def test_it_is_for_the_reference_on_a_host_without_the_instructions(monkeypatch, changed, fp32_kernels):
    import torch

    from fixtures.engine import half_gemm

    case = {"stock": True, "device_type": "cpu", "dtype": "bfloat16", "native": False} | changed
    monkeypatch.setattr(half_gemm, "native", lambda dtype: case["native"])
    adapter = types.SimpleNamespace(device_type=case["device_type"])
    loaded = types.SimpleNamespace(stock=case["stock"], adapter=adapter, dtype=getattr(torch, case["dtype"]))
    kind = half_gemm.Fp32Gemm if fp32_kernels else contextlib.nullcontext
    assert type(half_gemm.of_reference(loaded)) is kind


@pytest.mark.parametrize(("dtype", "flags"), [("bfloat16", {"amx_bf16", "avx512_bf16"}), ("float16", {"avx512_fp16"})])
def test_torch_says_what_the_processor_has(dtype, flags):
    import torch

    from fixtures.engine.half_gemm import native
    from fixtures.system.fingerprint import cpu_flags

    found = cpu_flags()
    assert native(getattr(torch, dtype)) or not flags & found
    assert {"avx512f", "avx_ne_convert"} & found or not native(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_type_has_instructions_of_its_own(monkeypatch, dtype):
    import torch

    from fixtures.engine.half_gemm import native

    has = types.SimpleNamespace(
        _is_mkldnn_bf16_supported=lambda: dtype == "bfloat16", _is_mkldnn_fp16_supported=lambda: dtype == "float16"
    )
    monkeypatch.setattr(torch.ops, "mkldnn", has)
    assert [native(getattr(torch, name)) for name in DTYPES] == [name == dtype for name in DTYPES]
