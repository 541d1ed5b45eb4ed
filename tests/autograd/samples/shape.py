"""Reshape, transpose, join, split, repeat, pad."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.autograd.samples import Sample


def complex_(*shape: int) -> Any:
    """A complex operand of a shape."""
    return lambda rng: rng.uniform(-2, 2, shape) + 1j * rng.uniform(-2, 2, shape)


def strided(*shape: int) -> Any:
    """An operand whose elements do not lie side by side."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-2, 2, (*shape[:-1], 2 * shape[-1]))[..., ::2]

    return draw


def _stacked(name: str, *calls: list[tuple[int, ...]]) -> list[Sample]:
    return [Sample(shapes, sequence=True, torch=lambda t, *xs: getattr(t, name)(xs)) for shapes in calls]


SAMPLES = {
    "reshape": [
        Sample([(2, 3)], {"shape": (3, 2)}, torch=lambda t, x, shape: t.reshape(x, shape)),
        Sample([(2, 3, 2)], {"shape": (-1, 4)}, torch=lambda t, x, shape: t.reshape(x, shape)),
        Sample([(2, 3)], {"shape": (3, 2), "order": "F"}, foreign=False),
        Sample([()], {"shape": (1, 1)}, torch=lambda t, x, shape: t.reshape(x, shape)),
        Sample([(2, 0)], {"shape": (0, 5)}),
        Sample([strided(2, 3)], {"shape": (6,)}, note="strided"),
        Sample([complex_(2, 2)], {"shape": (4,)}, note="complex"),
    ],
    "ravel": [Sample([(2, 3)], torch="ravel"), Sample([(2, 3)], {"order": "F"}, foreign=False), Sample([()])],
    "transpose": [
        Sample([(2, 3)], torch=lambda t, x: x.T),
        Sample([(2, 3, 4)], {"axes": (2, 0, 1)}, torch=lambda t, x, axes: x.permute(axes)),
        Sample([(2, 3, 4)], {"axes": (-1, 0, -2)}, torch=lambda t, x, axes: x.permute(axes)),
        Sample([(3, 0)]),
        Sample([()]),
    ],
    "swapaxes": [
        Sample([(2, 3, 4)], {"axis1": 0, "axis2": -1}, torch=lambda t, x, axis1, axis2: x.swapaxes(axis1, axis2))
    ],
    "moveaxis": [
        Sample(
            [(2, 3, 4)], {"source": 0, "destination": -1}, torch=lambda t, x, source, destination: x.moveaxis(0, -1)
        ),
        Sample([(2, 3, 4)], {"source": (0, 1), "destination": (1, 2)}),
    ],
    "matrix_transpose": [Sample([(2, 3, 4)], torch=lambda t, x: x.mT)],
    "expand_dims": [
        Sample([(2, 3)], {"axis": 1}, torch=lambda t, x, axis: x.unsqueeze(axis)),
        Sample([(2, 3)], {"axis": (0, -1)}),
        Sample([()], {"axis": 0}),
    ],
    "squeeze": [
        Sample([(1, 3, 1)], torch="squeeze", foreign=False),
        Sample([(1, 3, 1)], {"axis": -1}, torch=lambda t, x, axis: x.squeeze(axis)),
        Sample([(1, 3, 1)], {"axis": (0, 2)}),
    ],
    "broadcast_to": [
        Sample([(3,)], {"shape": (2, 3)}, torch=lambda t, x, shape: t.broadcast_to(x, shape)),
        Sample([(2, 1, 3)], {"shape": (4, 2, 5, 3)}, torch=lambda t, x, shape: t.broadcast_to(x, shape)),
        Sample([()], {"shape": (2, 2)}),
        Sample([(1, 3)], {"shape": (0, 3)}),
    ],
    "broadcast_arrays": [Sample([(3,), (2, 1)], torch=lambda t, *xs: t.broadcast_tensors(*xs))],
    "atleast_1d": [Sample([()]), Sample([(2, 3)])],
    "atleast_2d": [Sample([()]), Sample([(3,)]), Sample([(2, 3, 2)])],
    "atleast_3d": [Sample([()]), Sample([(3,)]), Sample([(2, 3)]), Sample([(2, 1, 2, 2)])],
    "flip": [
        Sample([(2, 3)], torch=lambda t, x: t.flip(x, (0, 1))),
        Sample([(2, 3)], {"axis": -1}, torch=lambda t, x, axis: t.flip(x, (axis,))),
        Sample([(2, 3, 2)], {"axis": (0, 2)}, torch=lambda t, x, axis: t.flip(x, axis)),
    ],
    "fliplr": [Sample([(2, 3)], torch="fliplr")],
    "flipud": [Sample([(2, 3)], torch="flipud")],
    "rot90": [
        *(Sample([(2, 3)], {"k": k}, torch=lambda t, x, k: t.rot90(x, k)) for k in (-1, 0, 1, 2, 3)),
        Sample([(2, 3, 4)], {"axes": (1, 2)}),
    ],
    "roll": [
        Sample([(2, 3)], {"shift": 2}, torch=lambda t, x, shift: t.roll(x, shift)),
        Sample([(2, 3)], {"shift": -1, "axis": 1}, torch=lambda t, x, shift, axis: t.roll(x, shift, axis)),
        Sample([(2, 3)], {"shift": (1, 2), "axis": (0, 1)}, torch=lambda t, x, shift, axis: t.roll(x, shift, axis)),
    ],
    "join_arrays": [
        Sample(
            [(2, 3), (1, 3)],
            {"axis": 0},
            expected=lambda *xs, axis: np.concatenate(xs, axis=axis),
            torch=lambda t, *xs, axis: t.cat(xs, axis),
        ),
        Sample([(2, 3), (2, 0), (2, 1)], {"axis": -1}, expected=lambda *xs, axis: np.concatenate(xs, axis=axis)),
        Sample([(2,)], {"axis": 0}, expected=lambda *xs, axis: np.concatenate(xs, axis=axis), note="one array"),
        Sample(
            [(2,), complex_(3)], {"axis": 0}, expected=lambda *xs, axis: np.concatenate(xs, axis=axis), note="complex"
        ),
    ],
    "stack_arrays": [
        *(
            Sample(
                [(2, 3), (2, 3)],
                {"axis": axis},
                expected=lambda *xs, axis: np.stack(xs, axis=axis),
                torch=lambda t, *xs, axis: t.stack(xs, axis),
            )
            for axis in (0, 1, -1)
        ),
        Sample([(), (), ()], {"axis": 0}, expected=lambda *xs, axis: np.stack(xs, axis=axis)),
    ],
    "concatenate": [
        Sample([(2, 3), (1, 3)], sequence=True, torch=lambda t, *xs: t.cat(xs)),
        Sample([(2, 3), (2, 0), (2, 1)], {"axis": -1}, sequence=True, torch=lambda t, *xs, axis: t.cat(xs, axis)),
        Sample([(2, 3), (2,)], {"axis": None}, sequence=True),
    ],
    "stack": [
        Sample([(2, 3), (2, 3)], {"axis": axis}, sequence=True, torch=lambda t, *xs, axis: t.stack(xs, axis))
        for axis in (0, 1, -1)
    ],
    "hstack": _stacked("hstack", [(2, 3), (2, 1)], [(2,), (3,)], [(), ()]),
    "vstack": _stacked("vstack", [(2, 3), (1, 3)], [(3,), (3,)], [(), ()]),
    "dstack": _stacked("dstack", [(2, 3), (2, 3)], [(3,), (3,)], [(2, 1, 2), (2, 1, 1)]),
    "column_stack": _stacked("column_stack", [(2, 3), (2, 1)], [(3,), (3,)]),
    "split_at": [
        Sample(
            [(5, 2)],
            {"places": (1, 3), "axis": 0},
            expected=lambda x, places, axis: np.split(x, places, axis),
            torch=lambda t, x, places, axis: t.tensor_split(x, places, axis),
        ),
        Sample([(2, 3)], {"places": (0, 0, 3), "axis": -1}, expected=lambda x, places, axis: np.split(x, places, axis)),
    ],
    "split": [Sample([(2, 6), 3, 1], torch=lambda t, x, n, axis: t.tensor_split(x, n, axis))],
    "array_split": [
        Sample([(7, 2), 3], torch=lambda t, x, n: t.tensor_split(x, n)),
        Sample([(7,)], {"indices_or_sections": (2, 1, 9)}),
        Sample([(7,)], {"indices_or_sections": (-2,)}),
    ],
    "hsplit": [Sample([(2, 4), 2]), Sample([(4,), 2])],
    "vsplit": [Sample([(4, 2), 2])],
    "unstack": [Sample([(3, 2)], torch="unbind"), Sample([(3, 2)], {"axis": 1})],
    "meshgrid": [
        Sample([(2,), (3,)], torch=lambda t, *xs: t.meshgrid(*xs, indexing="xy")),
        Sample([(2,), (3,), (2,)], {"indexing": "ij"}, torch=lambda t, *xs, indexing: t.meshgrid(*xs, indexing="ij")),
        Sample([(2,), (3,)], {"sparse": True}),
    ],
    "tile": [
        Sample([(2, 3)], {"reps": (2, 1, 2)}, torch=lambda t, x, reps: t.tile(x, reps)),
        Sample([(2, 3)], {"reps": 2}),
        Sample([()], {"reps": 3}),
        Sample([(2,)], {"reps": 0}),
    ],
    "repeat": [
        Sample([(2, 3), 2], torch="repeat_interleave"),
        Sample([(2, 3), 3], {"axis": -1}, torch=lambda t, x, n, axis: t.repeat_interleave(x, n, axis)),
        Sample(
            [(2, 3), np.array([2, 0, 1])],
            {"axis": 1},
            torch=lambda t, x, n, axis: t.repeat_interleave(x, n, axis),
            foreign=False,
        ),
    ],
    "pad_constant": [
        Sample(
            [(2, 3)],
            {"widths": ((1, 0), (2, 1)), "value": 5.0},
            expected=lambda x, widths, value: np.pad(x, widths, constant_values=value),
            torch=lambda t, x, widths, value: t.nn.functional.pad(x, (2, 1, 1, 0), value=value),
            foreign=False,
        ),
    ],
    "pad": [
        Sample([(2, 3), 1], foreign=False),
        Sample([(2, 3), np.array([[1, 2], [0, 1]])], {"constant_values": 2.0}, foreign=False),
        *(Sample([(3, 4), 2], {"mode": mode}, foreign=False) for mode in ("edge", "reflect", "symmetric", "wrap")),
    ],
}
