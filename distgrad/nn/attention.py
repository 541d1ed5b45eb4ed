"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from distgrad.autograd import ops
from distgrad.errors import ConfigError

from .linear import Linear
from .module import Module


class MultiHeadAttention(Module):
    """Attention of a sequence to itself or to another (Vaswani et al. 2017).

    Arguments:
        width: size of each position's vector, a multiple of `heads`.
        causal: a position sees itself and those before.

    Attributes:
        projection: from x to queries, keys and values, side by side: Linear(width, 3 · width).
        output: Linear(width, width).
    """

    def __init__(
        self, width: int, heads: int, *, causal: bool = False, bias: bool = True, dtype: Any = "float32"
    ) -> None:
        if width % heads:
            raise ConfigError(f"MultiHeadAttention: width {width} is no multiple of heads {heads}")
        self.projection = Linear(width, 3 * width, bias=bias, dtype=dtype)
        self.output = Linear(width, width, bias=bias, dtype=dtype)
        self.width, self.heads, self.causal = width, heads, causal

    def forward(self, x: Any, context: Any = None, mask: Any = None) -> Any:
        """x (batch, positions, width), and perhaps a `context` (batch, keys, width) to attend to instead of x.

        mask: broadcast to (batch, heads, positions, keys): boolean, True where a key is seen, or added to the scores.
        """
        if context is None and mask is None:
            return self.output(ops.self_attention(self.projection(x), heads=self.heads, causal=self.causal))
        q, k, v = self._project(x, x if context is None else context)
        operands = (q, k, v) if mask is None else (q, k, v, mask)
        mixed = ops.swapaxes(ops.scaled_dot_product_attention(*operands, causal=self.causal), 1, 2)
        return self.output(ops.reshape(mixed, (*x.shape[:2], self.width)))

    def _project(self, x: Any, context: Any) -> tuple[Any, Any, Any]:
        """Queries of x, keys and values of context, each (batch, heads, positions, width / heads)."""
        weight, bias = self.projection.weight, self.projection.bias
        width = self.width

        def projected(source: Any, rows: slice, parts: int) -> Any:
            affine = (weight[rows],) if bias is None else (weight[rows], bias[rows])
            split = (*source.shape[:2], parts, self.heads, width // self.heads)
            return ops.transpose(ops.reshape(ops.linear(source, *affine), split), (2, 0, 3, 1, 4))

        queries = projected(x, slice(0, width), 1)
        keys_and_values = projected(context, slice(width, 3 * width), 2)
        return queries[0], keys_and_values[0], keys_and_values[1]

    def describe(self) -> str:
        return f"{self.width}, heads={self.heads}" + (", causal" if self.causal else "")
