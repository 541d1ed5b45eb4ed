"""Links between processes: at most one to each other process, surviving breaks, delivering everything once and in
order.

interfaces   what a link, its receiver and a lane are
settings     how links behave
endpoint     all links of one process                     <- start here
link         one of them: messages, requests, the window
bodies       messages, requests and replies as bytes
session      sequence numbers, acknowledgements, sending again
chunks       large arrays in pieces; who goes next
plug         the end of a lane in this process
handshake    who is there, and do they belong together
pulse        heartbeats and silence
recovery     from one lane to another, and after a break
addresses    where a process listens, as text
lanes        all kinds of lanes, told apart by addresses
offers       lanes faster than gRPC: who offers and takes which
grpc_lane    lanes over gRPC
grpc_channel channels of gRPC
grpc_health  health, as gRPC's probes ask for it
health       what a process says of its health
socket_lane  lanes over Unix and TCP sockets: listening and connecting
stream_lane  one of them: frames on a byte stream
streams      byte streams: a plain socket, one with TLS
tls_trouble  why a TLS connection does not come about
blocks       shared memory that a request to the gradient service lends its server
local_messages  what its Unix socket carries
memory_lane  lanes inside one process, under a seeded scheduler, for tests
threads      threads that are joined together
"""

import os

# Else gRPC writes a line to standard error for every peer that ends first. It looks at this once, when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from .endpoint import Endpoint
from .interfaces import Identity, Lane, Lanes, Link, Port, Receiver, Reply
from .memory_lane import MemoryNetwork
from .settings import TLS, TransportSettings

__all__ = [
    "TLS",
    "Endpoint",
    "Identity",
    "Lane",
    "Lanes",
    "Link",
    "MemoryNetwork",
    "Port",
    "Receiver",
    "Reply",
    "TransportSettings",
]
