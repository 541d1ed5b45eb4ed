"""Code generated from `proto/distgrad/v1` by `python -m distgrad.wire.generate`. Not edited by hand."""
