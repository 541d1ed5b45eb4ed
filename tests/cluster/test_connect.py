"""Joining a cluster that runs elsewhere."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import distgrad as dg
from distgrad.coordinator.server import Coordinator
from distgrad.errors import ConfigError, LinkError, PermissionDenied
from distgrad.transport.settings import TransportSettings


@pytest.fixture
def address() -> Iterator[str]:
    settings = TransportSettings(cluster="distgrad", token="let me in", client_tokens=("a guest",))
    with Coordinator(settings, "127.0.0.1:0") as coordinator:
        yield coordinator.process.identity.address


@pytest.mark.parametrize("token", ["let me in", "a guest"])
def test_who_has_the_token_is_let_in(address: str, token: str) -> None:
    with dg.connect(address, token=token) as cluster:
        assert cluster.workers == []


@pytest.mark.parametrize("token", ["", "let me in?"])
def test_a_stranger_is_told_that_the_token_is_not_accepted(address: str, token: str) -> None:
    with pytest.raises(PermissionDenied, match=f"coordinator at {address} refused the link: the token is not accepted"):
        dg.connect(address, token=token)


def test_another_cluster_is_not_entered(address: str) -> None:
    with pytest.raises(LinkError, match="it belongs to cluster 'distgrad', not to 'other'"):
        dg.connect(address, token="let me in", cluster="other")


def test_an_address_where_nobody_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(LinkError, match=f"nobody listens at {address}, where coordinator should be"):
        dg.connect(address)


def test_another_machine_is_not_reached_in_the_clear_unless_asked_to() -> None:
    with pytest.raises(ConfigError, match="would leave this machine unencrypted: set tls, or insecure=True"):
        dg.connect("192.0.2.1:7400")


@pytest.mark.parametrize("wrong", [{"timeout": math.nan}, {"timeout": "soon"}, {"name": 3}, {"cluster": ""}], ids=str)
def test_what_cannot_be_is_refused_by_name_before_anybody_is_asked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        dg.connect("127.0.0.1:1", **wrong)
