"""Convolution over two axes, its transpose, and unfolding into patches.

conv2d is linear in its input and in its weight. Its gradient by the input is the transposed convolution; that by the
weight is an operation of its own, `conv2d_weight`. The three are one another's gradients, so derivatives of every order
are made of them.

On arrays each is a matrix product over patches (im2col), a few examples at a time, so that the patches stay in the
cache. Images are (batch, channels, height, width). `stride`, `padding` and `dilation` are a number or a pair (vertical,
horizontal).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from distgrad.errors import GradientError

from ..operands import ops
from ..primitive import composite, conjugate, primitive
from .blocks import PART
from .nested import is_complex, nested
from .precision import narrow, widen

Pair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel moves over an image."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def positions(self, height: int, width: int) -> Pair:
        """At how many places, down and across, it fits an image of this size."""
        sizes = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in zip((height, width), *self, strict=True)
        ]
        if min(sizes) < 1:
            raise GradientError(f"a window {self} does not fit an image of {height} × {width}")
        return sizes[0], sizes[1]

    def covered(self, rows: int, columns: int) -> Pair:
        """The smallest image that has this many places for it."""
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in zip((rows, columns), *self, strict=True)]
        return sizes[0], sizes[1]

    def taps(self, rows: int, columns: int) -> Iterator[tuple[int, int, slice, slice]]:
        """For each element (i, j) of the kernel, the slices of the padded image it meets at all places."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                top, left = i * self.dilation[0], j * self.dilation[1]
                yield (
                    i,
                    j,
                    slice(top, top + (rows - 1) * self.stride[0] + 1, self.stride[0]),
                    slice(left, left + (columns - 1) * self.stride[1] + 1, self.stride[1]),
                )


def pair(value: int | Pair) -> Pair:
    """A number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def window(kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Window:
    """A window of numbers or pairs."""
    found = Window(pair(kernel), pair(stride), pair(padding), pair(dilation))
    if min(*found.kernel, *found.stride, *found.dilation) < 1 or min(found.padding) < 0:
        raise GradientError(f"a window needs a positive kernel, stride and dilation, and no negative padding: {found}")
    return found


# ---- patches of arrays -----------------------------------------------------------------------------------------------


def pad_image(xp: Any, x: Any, padding: Pair, value: float = 0.0) -> Any:
    """`x` with a border of `value`."""
    if padding == (0, 0):
        return x
    (top, left), (height, width) = padding, x.shape[2:]
    out = xp.full((*x.shape[:2], height + 2 * top, width + 2 * left), value, dtype=x.dtype)
    out[:, :, top : top + height, left : left + width] = x
    return out


def gather(xp: Any, padded: Any, w: Window, rows: int, columns: int, out: Any = None) -> Any:
    """Patches (batch, channels, kernel height, kernel width, rows, columns) of a padded image."""
    if out is None:
        out = xp.empty((*padded.shape[:2], *w.kernel, rows, columns), dtype=padded.dtype)
    for i, j, down, across in w.taps(rows, columns):
        out[:, :, i, j, ...] = padded[:, :, down, across]
    return out


def scatter(xp: Any, patches: Any, w: Window, size: Pair) -> Any:
    """The transpose of padding and gathering: adds patches up in an image of `size`."""
    rows, columns = patches.shape[4:]
    (height, width), (top, left) = size, w.padding
    out = xp.zeros((*patches.shape[:2], height + 2 * top, width + 2 * left), dtype=patches.dtype)
    for i, j, down, across in w.taps(rows, columns):
        out[:, :, down, across] += patches[:, :, i, j, ...]
    return out[:, :, top : top + height, left : left + width]


def _batches(examples: int, per_example: int) -> Iterator[slice]:
    """Slices of the batch whose patches fit the cache together."""
    step = max(1, 4 * PART // max(per_example, 1))
    for start in range(0, examples, step):
        yield slice(start, min(start + step, examples))


def _grouped(xp: Any, a: Any, groups: int, columns: int) -> Any:
    """(batch, channels, ...) as (batch, groups, channels of a group · kernel, positions)."""
    return xp.reshape(a, (a.shape[0], groups, -1, columns))


# ---- the three products over patches ---------------------------------------------------------------------------------


def _dtype(xp: Any, x: Any, y: Any) -> Any:
    """The dtype of products: that of `x`, unless `y` alone is complex."""
    return xp.result_type(x, y) if is_complex(y) else x.dtype


def _convolve(xp: Any, x: Any, weight: Any, w: Window, groups: int) -> Any:
    rows, columns = w.positions(*x.shape[2:])
    outputs, inputs = weight.shape[0], x.shape[1] // groups * w.kernel[0] * w.kernel[1]
    matrix = xp.reshape(weight, (groups, outputs // groups, inputs))
    out = xp.empty((x.shape[0], outputs, rows, columns), dtype=_dtype(xp, x, weight))
    padded = pad_image(xp, x, w.padding)
    for part in _batches(x.shape[0], groups * inputs * rows * columns):
        patches = _grouped(xp, gather(xp, padded[part, ...], w, rows, columns), groups, rows * columns)
        _matmul_into(xp, matrix, patches, out, part)
    return out


def _matmul_into(xp: Any, matrix: Any, patches: Any, out: Any, part: slice) -> None:
    """Writes matrix · patches into a part of the batch of `out`; on NumPy without a copy."""
    if xp is np:
        examples = out[part]
        np.matmul(matrix, patches, out=examples.reshape(*patches.shape[:2], -1, patches.shape[-1]))
    else:
        out[part, ...] = xp.reshape(xp.matmul(matrix, patches), (-1, *out.shape[1:]))


def _convolve_back(xp: Any, g: Any, weight: Any, w: Window, groups: int, size: Pair) -> Any:
    """The transpose of `_convolve` in x: from (batch, outputs, rows, columns) to images of `size`."""
    rows, columns = g.shape[2:]
    outputs, inputs = weight.shape[:2]
    matrix = xp.reshape(weight, (groups, outputs // groups, inputs * w.kernel[0] * w.kernel[1]))
    transposed = xp.swapaxes(matrix, 1, 2)
    out = xp.empty((g.shape[0], groups * inputs, *size), dtype=_dtype(xp, g, weight))
    for part in _batches(g.shape[0], matrix.size // (outputs // groups) * rows * columns):
        patches = xp.matmul(transposed, _grouped(xp, g[part, ...], groups, rows * columns))
        shaped = xp.reshape(patches, (-1, groups * inputs, *w.kernel, rows, columns))
        out[part, ...] = scatter(xp, shaped, w, size)
    return out


def _weight_gradient(xp: Any, x: Any, g: Any, w: Window, groups: int) -> Any:
    rows, columns = g.shape[2:]
    outputs, inputs = g.shape[1] // groups, x.shape[1] // groups
    total = xp.zeros((groups, outputs, inputs * w.kernel[0] * w.kernel[1]), dtype=_dtype(xp, x, g))
    padded = pad_image(xp, x, w.padding)
    for part in _batches(x.shape[0], x.shape[1] * w.kernel[0] * w.kernel[1] * rows * columns):
        patches = _grouped(xp, gather(xp, padded[part, ...], w, rows, columns), groups, rows * columns)
        products = xp.matmul(_grouped(xp, g[part, ...], groups, rows * columns), xp.swapaxes(patches, 2, 3))
        total = total + xp.sum(products, axis=0)
    return xp.reshape(total, (groups * outputs, inputs, *w.kernel))


def _add_bias(xp: Any, out: Any, bias: Any) -> Any:
    if bias is None:
        return out
    if xp is np and out.dtype == bias.dtype:
        out += bias.reshape(-1, 1, 1)
        return out
    return out + xp.reshape(bias, (-1, 1, 1))


# ---- conv2d ----------------------------------------------------------------------------------------------------------


def _conv2d(
    xp: Any, x: Any, weight: Any, bias: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Any:  # fmt: skip
    _check("conv2d", x, weight, x.shape[1] if x.ndim == 4 else 0, 1, bias, groups)
    w = window(weight.shape[2:], stride, padding, dilation)
    wide = _convolve(xp, widen(xp, x), widen(xp, weight), w, groups)
    return narrow(xp, _add_bias(xp, wide, bias), x.dtype)


def _check(name: str, x: Any, weight: Any, channels: int, axis: int, bias: Any, groups: int) -> None:
    """`axis` is the weight's axis that, times `groups` for conv2d, counts the channels of x."""
    if x.ndim != 4 or weight.ndim != 4:
        raise GradientError(
            f"{name}() needs x (batch, channels, height, width) and a weight of four axes, got {x.shape} and "
            f"{weight.shape}"
        )
    expected = weight.shape[axis] * (groups if axis else 1)
    outputs = weight.shape[0] if axis else weight.shape[1] * groups
    if channels != expected or weight.shape[0] % groups:
        raise GradientError(f"{name}(groups={groups}) got {channels} channels, but a weight of shape {weight.shape}")
    if bias is not None and bias.shape != (outputs,):
        raise GradientError(f"{name}() got a bias of shape {bias.shape}, expected {(outputs,)}")


def _conv2d_x(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None, *, groups: int = 1, **moves: Any
) -> Any:
    w = window(weight.shape[2:], **moves)
    covered = w.covered(*g.shape[2:])
    left_over = (x.shape[2] - covered[0], x.shape[3] - covered[1])
    weight = conjugate(xp, weight)
    return nested(xp, conv_transpose2d, g, weight, output_padding=left_over, groups=groups, **moves)


def _conv2d_weight(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None, *, groups: int = 1, **moves: Any
) -> Any:
    return nested(xp, conv2d_weight, conjugate(xp, x), g, kernel=tuple(weight.shape[2:]), groups=groups, **moves)


def _image_bias(xp: Any, g: Any, ans: Any, *args: Any, **params: Any) -> Any:
    return xp.sum(widen(xp, g), axis=(0, 2, 3))


def _bilinear_jvp(name: str) -> Any:
    """The jvp of an operation linear in x and in weight, with a bias for each channel."""

    def jvp(xp: Any, tangents: Any, ans: Any, x: Any, weight: Any, bias: Any = None, **params: Any) -> Any:
        tx, tweight, tbias = (*tangents, None)[:3]
        op = getattr(xp, name)
        terms = [] if tx is None else [op(tx, weight, **params)]
        if tweight is not None:
            terms.append(op(x, tweight, **params))
        if tbias is not None:
            terms.append(xp.reshape(tbias, (-1, 1, 1)))
        return sum(terms[1:], terms[0])

    return jvp


conv2d = primitive(
    "conv2d",
    _conv2d,
    vjps=[_conv2d_x, _conv2d_weight, _image_bias],
    jvp=_bilinear_jvp("conv2d"),
    save="inputs",
    doc="Cross-correlation: x (batch, inputs, height, width), weight (outputs, inputs / groups, kernel height, "
    "kernel width), bias (outputs,) or absent.",
)

# ---- conv_transpose2d ------------------------------------------------------------------------------------------------


def _conv_transpose2d(
    xp: Any, x: Any, weight: Any, bias: Any = None, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    _check("conv_transpose2d", x, weight, x.shape[1] if x.ndim == 4 else 0, 0, bias, groups)
    w = window(weight.shape[2:], stride, padding, dilation)
    covered, extra = w.covered(*x.shape[2:]), pair(output_padding)
    size = (covered[0] + extra[0], covered[1] + extra[1])
    wide = _convolve_back(xp, widen(xp, x), widen(xp, weight), w, groups, size)
    return narrow(xp, _add_bias(xp, wide, bias), x.dtype)


def _conv_transpose2d_x(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None, *, output_padding: Any = 0, **params: Any
) -> Any:
    return nested(xp, conv2d, g, conjugate(xp, weight), **params)


def _conv_transpose2d_weight(
    xp: Any, g: Any, ans: Any, x: Any, weight: Any, bias: Any = None, *, output_padding: Any = 0, **params: Any
) -> Any:
    return nested(xp, conv2d_weight, g, conjugate(xp, x), kernel=tuple(weight.shape[2:]), **params)


conv_transpose2d = primitive(
    "conv_transpose2d",
    _conv_transpose2d,
    vjps=[_conv_transpose2d_x, _conv_transpose2d_weight, _image_bias],
    jvp=_bilinear_jvp("conv_transpose2d"),
    save="inputs",
    doc="The transpose of conv2d in x: x (batch, inputs, height, width), weight (inputs, outputs / groups, "
    "kernel height, kernel width), bias (outputs,) or absent. output_padding: rows and columns added below and right.",
)

# ---- conv2d_weight ---------------------------------------------------------------------------------------------------


def _conv2d_weight_forward(
    xp: Any, x: Any, g: Any, *, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    w = window(kernel, stride, padding, dilation)
    return narrow(xp, _weight_gradient(xp, widen(xp, x), widen(xp, g), w, groups), x.dtype)


def _conv2d_weight_x(xp: Any, pulled: Any, ans: Any, x: Any, g: Any, *, kernel: Any, **params: Any) -> Any:
    # Of complex numbers g is what the products are made with, and `pulled` what comes back: so it is g's conjugate.
    return conjugate(xp, _conv2d_x(xp, g, None, x, pulled, **params))


def _conv2d_weight_g(xp: Any, pulled: Any, ans: Any, x: Any, g: Any, *, kernel: Any, **params: Any) -> Any:
    return nested(xp, conv2d, conjugate(xp, x), pulled, **params)


conv2d_weight = primitive(
    "conv2d_weight",
    _conv2d_weight_forward,
    vjps=[_conv2d_weight_x, _conv2d_weight_g],
    jvp=_bilinear_jvp("conv2d_weight"),
    save="inputs",
    doc="The gradient of conv2d by its weight: x (batch, inputs, height, width), g of the shape of conv2d's value.",
)

# ---- conv1d ----------------------------------------------------------------------------------------------------------


@composite
def conv1d(
    x: Any, weight: Any, bias: Any = None, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> Any:
    """Cross-correlation: x (batch, inputs, length), weight (outputs, inputs / groups, kernel), bias (outputs,) or
    None.
    """
    xp = ops()
    images = [xp.expand_dims(x, 2), xp.expand_dims(weight, 2)] + ([] if bias is None else [bias])
    out = conv2d(*images, stride=(1, stride), padding=(0, padding), dilation=(1, dilation), groups=groups)
    return xp.squeeze(out, 2)


# ---- patches as operations of their own ------------------------------------------------------------------------------


def _unfold2d(xp: Any, x: Any, *, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    w = window(kernel, stride, padding, dilation)
    rows, columns = w.positions(*x.shape[2:])
    return gather(xp, pad_image(xp, x, w.padding), w, rows, columns)


def _unfold2d_vjp(xp: Any, g: Any, ans: Any, x: Any, **params: Any) -> Any:
    return nested(xp, fold2d, g, size=tuple(x.shape[2:]), **{k: v for k, v in params.items() if k != "kernel"})


unfold2d = primitive(
    "unfold2d",
    _unfold2d,
    vjps=[_unfold2d_vjp],
    jvp="linear",
    save="nothing",
    doc="Patches of images: (batch, channels, height, width) to "
    "(batch, channels, kernel height, kernel width, rows, columns).",
)


def _fold2d(xp: Any, patches: Any, *, size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    w = window(patches.shape[2:4], stride, padding, dilation)
    return scatter(xp, patches, w, size)


def _fold2d_vjp(xp: Any, g: Any, ans: Any, patches: Any, *, size: Any, **params: Any) -> Any:
    return nested(xp, unfold2d, g, kernel=tuple(patches.shape[2:4]), **params)


fold2d = primitive(
    "fold2d",
    _fold2d,
    vjps=[_fold2d_vjp],
    jvp="linear",
    save="nothing",
    doc="Adds patches up in images of `size`: the transpose of unfold2d.",
)
