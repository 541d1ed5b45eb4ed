"""Fourier transforms, in NumPy's conventions.

All are linear. The adjoint of a transform is the inverse one without its factor, i.e. with "backward" and "forward"
exchanged in `norm`; of real transforms the half spectrum stands for both halves, so what is between its ends counts
twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..operands import ops
from ..primitive import composite, primitive
from .nested import shape_of

_EXCHANGED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


def _fft(xp: Any) -> Any:
    """Where the transforms are: flat in dg.ops, in `fft` elsewhere."""
    return xp if xp is ops() else xp.fft


def _resized(xp: Any, x: Any, n: int, axis: int) -> Any:
    """x cut to length n along an axis, or filled up with zeros."""
    have = x.shape[axis]
    if have > n:
        return x[(*(slice(None),) * (axis % x.ndim), slice(n))]
    if have < n:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, n - have)
        return xp.pad(x, widths)
    return x


# ---- complex ---------------------------------------------------------------------------------------------------------


def _complex_vjp(inverse: str) -> Any:
    """The vjp of fft or ifft, given the name of the inverse."""

    def vjp(xp: Any, g: Any, ans: Any, x: Any, *, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
        back = getattr(_fft(xp), inverse)(g, axis=axis, norm=_EXCHANGED[norm])
        return _resized(xp, back, x.shape[axis], axis)

    return vjp


fft = primitive(
    "fft",
    lambda xp, x, *, n=None, axis=-1, norm=None: _fft(xp).fft(x, n=n, axis=axis, norm=norm),
    vjps=[_complex_vjp("ifft")],
    jvp="linear",
    save="nothing",
    doc="Σ_j x_j e^(-2πi jk/n) along an axis, cut or filled up with zeros to length n.",
)
ifft = primitive(
    "ifft",
    lambda xp, x, *, n=None, axis=-1, norm=None: _fft(xp).ifft(x, n=n, axis=axis, norm=norm),
    vjps=[_complex_vjp("fft")],
    jvp="linear",
    save="nothing",
    doc="1/n Σ_j x_j e^(2πi jk/n) along an axis, the inverse of `fft`.",
)

# ---- real ------------------------------------------------------------------------------------------------------------


def _inside_scaled(xp: Any, half: Any, n: int, axis: int, factor: float) -> Any:
    """A half spectrum of length n // 2 + 1, with what stands for two frequencies multiplied by `factor`."""
    whole = (slice(None),) * (axis % half.ndim)
    stop = (n + 1) // 2
    pieces = [half[(*whole, slice(0, 1))], half[(*whole, slice(1, stop))] * factor, half[(*whole, slice(stop, None))]]
    return xp.concatenate(pieces, axis=axis)


def _rfft_vjp(
    xp: Any, g: Any, ans: Any, x: Any, *, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    n = x.shape[axis] if n is None else n
    back = _fft(xp).irfft(_inside_scaled(xp, g, n, axis, 0.5), n=n, axis=axis, norm=_EXCHANGED[norm])
    return _resized(xp, back, x.shape[axis], axis)


def _irfft_vjp(
    xp: Any, g: Any, ans: Any, x: Any, *, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    n = ans.shape[axis]
    back = _inside_scaled(xp, _fft(xp).rfft(g, axis=axis, norm=_EXCHANGED[norm]), n, axis, 2.0)
    return _resized(xp, back, x.shape[axis], axis)


rfft = primitive(
    "rfft",
    lambda xp, x, *, n=None, axis=-1, norm=None: _fft(xp).rfft(x, n=n, axis=axis, norm=norm),
    vjps=[_rfft_vjp],
    jvp="linear",
    save="nothing",
    doc="The first n // 2 + 1 frequencies of `fft`, of real x.",
)
irfft = primitive(
    "irfft",
    lambda xp, x, *, n=None, axis=-1, norm=None: _fft(xp).irfft(x, n=n, axis=axis, norm=norm),
    vjps=[_irfft_vjp],
    jvp="linear",
    save="nothing",
    doc="The real x of length n (default: 2(m - 1) for m frequencies) whose `rfft` this is.",
)

# ---- several axes ----------------------------------------------------------------------------------------------------


def _along(x: Any, s: Sequence[int] | None, axes: Sequence[int] | None) -> list[tuple[int | None, int]]:
    """(length, axis) for each axis that is transformed."""
    ndim = len(shape_of(x))
    if axes is None:
        axes = range(ndim) if s is None else range(-len(s), 0)
    lengths: Sequence[int | None] = s or [None] * len(axes)
    return list(zip(lengths, axes, strict=True))


@composite
def fftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Any:
    """`fft` along several axes, all by default, with the lengths `s`."""
    for n, axis in reversed(_along(x, s, axes)):
        x = fft(x, n=n, axis=axis, norm=norm)
    return x


@composite
def ifftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Any:
    """`ifft` along several axes, all by default, with the lengths `s`."""
    for n, axis in reversed(_along(x, s, axes)):
        x = ifft(x, n=n, axis=axis, norm=norm)
    return x


@composite
def rfftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Any:
    """`rfft` along the last of several axes, `fft` along the others."""
    *others, (n, last) = _along(x, s, axes)
    x = rfft(x, n=n, axis=last, norm=norm)
    for n, axis in reversed(others):
        x = fft(x, n=n, axis=axis, norm=norm)
    return x


@composite
def irfftn(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None) -> Any:
    """The inverse of `rfftn`: `irfft` along the last of several axes, `ifft` along the others."""
    *others, (n, last) = _along(x, s, axes)
    for k, axis in others:
        x = ifft(x, n=k, axis=axis, norm=norm)
    return irfft(x, n=n, axis=last, norm=norm)


@composite
def fft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`fft` along two axes."""
    return fftn(x, s, axes, norm)


@composite
def ifft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`ifft` along two axes."""
    return ifftn(x, s, axes, norm)


@composite
def rfft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`rfft` along the second of two axes, `fft` along the first."""
    return rfftn(x, s, axes, norm)


@composite
def irfft2(x: Any, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """The inverse of `rfft2`."""
    return irfftn(x, s, axes, norm)


def _shifted(x: Any, axes: int | Sequence[int] | None, forth: bool) -> Any:
    shape = shape_of(x)
    axes = tuple(range(len(shape))) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    shift = tuple(shape[a] // 2 if forth else -(shape[a] // 2) for a in axes)
    return ops().roll(x, shift=shift, axis=axes)


@composite
def fftshift(x: Any, axes: int | Sequence[int] | None = None) -> Any:
    """Moves the frequency zero from the front to the middle of the axes."""
    return _shifted(x, axes, forth=True)


@composite
def ifftshift(x: Any, axes: int | Sequence[int] | None = None) -> Any:
    """The inverse of `fftshift`."""
    return _shifted(x, axes, forth=False)
