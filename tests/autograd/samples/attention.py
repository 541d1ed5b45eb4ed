"""Attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import Sample


def _attention(
    torch: Any, q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None
) -> Any:
    # Written out: PyTorch's fused kernels have no second derivative.
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, -1) @ v


def _self_attention(torch: Any, packed: Any, heads: int, causal: bool = False, scale: float | None = None) -> Any:
    batch, tokens, width = packed.shape
    q, k, v = packed.reshape(batch, tokens, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    return _attention(torch, q, k, v, None, causal, scale).transpose(1, 2).reshape(batch, tokens, width // 3)


SEEN = np.array([[True, False, True, True], [False, True, True, False], [True, True, True, True]])

SAMPLES = {
    "scaled_dot_product_attention": [
        Sample([(2, 3, 4), (2, 5, 4), (2, 5, 6)], torch=_attention),
        Sample([(3, 4), (5, 4), (5, 4)], {"scale": 0.7}, torch=_attention),
        Sample([(1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 3)], {"causal": True}, torch=_attention),
        Sample([(2, 1, 3, 2), (2, 1, 4, 2), (2, 1, 4, 2), SEEN], torch=_attention, note="boolean mask"),
        Sample([(2, 2, 3, 2), (2, 2, 4, 2), (2, 2, 4, 2), (2, 1, 3, 4)], torch=_attention, note="added mask"),
        Sample([(2, 2, 3, 2), (2, 1, 4, 2), (4, 2)], torch=_attention, note="broadcast heads"),
    ],
    "self_attention": [
        Sample([(2, 3, 12)], {"heads": 2}, torch=_self_attention),
        Sample([(1, 4, 6)], {"heads": 1, "causal": True, "scale": 0.5}, torch=_self_attention),
    ],
}
