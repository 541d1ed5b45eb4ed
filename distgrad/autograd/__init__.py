"""The local engine: tensors, the tape, primitives, the backward pass, transforms and checks. Knows nothing of networks.

How it works, on two pages: README.md beside this file.
"""
