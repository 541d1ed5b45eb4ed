"""Python's operators and NumPy's protocols on tensors, attached from one table."""

from __future__ import annotations

from distgrad.autograd import ops
from distgrad.autograd.tensor import Tensor

BINARY = {"add": "add", "mul": "multiply", "sub": "subtract"}
for _name, _op in BINARY.items():
    _primitive = getattr(ops, _op)
    setattr(Tensor, f"__{_name}__", lambda self, other, op=_primitive: op(self, other))
    setattr(Tensor, f"__r{_name}__", lambda self, other, op=_primitive: op(other, self))
Tensor.__neg__ = lambda self: ops.negative(self)  # type: ignore
