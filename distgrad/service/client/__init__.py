"""Calling a gradient service.

connect        `dg.client`: a server as a mapping of its functions
function       a served function: its value and its derivatives at given arguments
point          what is asked of a function at one place; linearisations that the server keeps
question       one request and how to read its answer
lines          ways to reach a server: what they have in common
turns          which of the threads that wait reads the answers
local_line     ... on this machine: a Unix socket and shared memory
stream_line    ... anywhere: a stream of gRPC
retries        what is tried again, and when
flat           a function as one of a list of arrays, for other frameworks: in_scipy, in_jax, in_torch, in_tape
taylor         the order of Taylor remainders, for checks of derivatives
exceptions     what a server says went wrong -> exceptions
"""

from .connect import Client, client
from .function import RemoteFunction
from .point import Linearization, Point

__all__ = ["Client", "Linearization", "Point", "RemoteFunction", "client"]
