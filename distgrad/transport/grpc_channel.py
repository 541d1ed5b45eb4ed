"""Channels of gRPC to a process, as the settings want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from .addresses import is_local, unix_address
from .credentials import channel_credentials
from .settings import TransportSettings


def open_channel(address: str, settings: TransportSettings, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel to `address`, with TLS when the settings have it and the address is not a Unix socket."""
    # A subchannel shared with an earlier, failed attempt would wait out that one's back-off.
    options = [*options, ("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 200)]
    options += [("grpc.min_reconnect_backoff_ms", 1000), ("grpc.max_reconnect_backoff_ms", 1000)]
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    tls = settings.tls
    if tls is None or unix_address(address) is not None:
        return grpc.insecure_channel(address, options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.secure_channel(address, channel_credentials(tls), options)
