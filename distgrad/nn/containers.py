"""Modules made of modules."""

from __future__ import annotations

from typing import Any

from .module import Module


class Sequential(Module):
    """Modules one after another. Their names are their positions: "0.weight"."""

    def __init__(self, *modules: Module) -> None:
        for position, module in enumerate(modules):
            setattr(self, str(position), module)

    def forward(self, x: Any) -> Any:
        for module in self.children():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, position: int) -> Module:
        return list(self.children())[position]
