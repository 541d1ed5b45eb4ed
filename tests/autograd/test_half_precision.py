"""Storage in two bytes: every operation keeps float16 and bfloat16, and computes about what it computes in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad.autograd.primitive import PRIMITIVES
from tests.autograd.case import Case, cases, results

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, which knows bfloat16, is not installed")

DIFFERENTIABLE = sorted(name for name, op in PRIMITIVES.items() if op.vjps is not None)
# No Fourier transforms in NumPy below single precision.
LEFT_OUT = {"fft", "ifft", "rfft", "irfft"}


def in_dtype(case: Case, dtype: Any) -> list[Any]:
    return [x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in case.operands]


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if name not in LEFT_OUT])
def test_bfloat16_is_kept_and_has_gradients(name: str) -> None:
    case = next(cases(name))
    single, half = in_dtype(case, np.float32), in_dtype(case, ml_dtypes.bfloat16)
    variables = [dg.tensor(x, requires_grad=getattr(x, "dtype", None) == ml_dtypes.bfloat16) for x in half]
    with np.errstate(all="ignore"):
        expected = results(case.call(case.op, single))
        given = [v if isinstance(x, np.ndarray) else x for x, v in zip(half, variables, strict=True)]
        found = results(case.call(case.op, given))
    for want, value in zip(expected, found, strict=True):
        if want.dtype == np.float32:
            assert value.dtype == ml_dtypes.bfloat16
    roots = [value for value in found if value.requires_grad]
    dg.backward(roots, [np.ones(root.shape, root.dtype) for root in roots])
    for variable in variables:
        assert variable.grad is None or variable.grad.dtype == variable.dtype


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("operation", ["linear", "matmul", "softmax", "layer_norm", "sum", "mean", "logsumexp"])
def test_sums_are_taken_in_single_precision(dtype: Any, operation: str, rng: np.random.Generator) -> None:
    x = rng.uniform(0.5, 1.5, (4, 4096)).astype(dtype)
    w = rng.uniform(0.5, 1.5, (3, 4096)).astype(dtype)
    call = {
        "linear": lambda x, w: dg.ops.linear(x, w),
        "matmul": lambda x, w: dg.ops.matmul(x, dg.ops.transpose(w)),
        "layer_norm": lambda x, w: dg.ops.layer_norm(x),
    }.get(operation, lambda x, w: getattr(dg.ops, operation)(x, axis=-1))
    found = call(x, w).numpy()
    expected = call(x.astype(np.float32), w.astype(np.float32)).numpy()
    assert found.dtype == dtype
    # Rounded once at the end: adding 4,096 numbers in half precision would be off by far more.
    step = 2.0**-8 if dtype == ml_dtypes.bfloat16 else 2.0**-11
    np.testing.assert_allclose(found.astype(np.float32), expected, rtol=2 * step, atol=1e-6)
