"""Activation functions."""

from __future__ import annotations

from typing import Any

from . import Sample


def functional(name: str, **renamed: str) -> Any:
    """PyTorch's function of this name; `renamed` gives its name of a parameter of ours."""

    def oracle(torch: Any, *tensors: Any, **params: Any) -> Any:
        function = getattr(torch.nn.functional, name)
        return function(*tensors, **{renamed.get(k, k): v for k, v in params.items()})

    return oracle


def _samples(name: str, *params: dict[str, Any], **renamed: str) -> list[Sample]:
    oracle = functional(name, **renamed)
    shapes: tuple[tuple[int, ...], ...] = ((3, 4), (), (0, 2))
    plain = [Sample([shape], domain=(-3.0, 3.0), torch=oracle) for shape in shapes]
    return plain + [Sample([(3, 4)], p, domain=(-3.0, 3.0), torch=oracle) for p in params]


SAMPLES = {
    "relu": _samples("relu"),
    "leaky_relu": _samples("leaky_relu", {"slope": 0.2}, slope="negative_slope"),
    "hardtanh": _samples("hardtanh", {"low": -0.5, "high": 2.0}, low="min_val", high="max_val"),
    "elu": _samples("elu", {"alpha": 0.7}),
    "selu": _samples("selu"),
    "softplus": _samples("softplus", {"beta": 2.0}),
    "mish": _samples("mish"),
    "silu": _samples("silu"),
    "gelu": _samples("gelu", {"approximate": "tanh"}),
}
