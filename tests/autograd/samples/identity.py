"""Samples of rules/identity.py."""

from __future__ import annotations

from tests.autograd.samples import Sample

SAMPLES = {"detach": [Sample([(2, 3)], expected=lambda x: x)]}
