"""The local engine: tensors, the tape, primitives, the backward pass, transforms and checks. Knows nothing of networks.

How it works, on two pages: README.md beside this file.
"""

from importlib import import_module

# Tensors learn Python's operators, whatever of this folder is imported first.
import_module(".operators", __package__)
