from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distgrad.errors import ConfigError
from distgrad.transport import TLS, TransportSettings
from distgrad.transport.settings import is_local

WRONG: list[dict[str, Any]] = [
    {"cluster": ""},
    {"token": None},
    {"lossy": "bf16"},
    {"connect_timeout": float("nan")},
    {"heartbeat": 0},
    {"heartbeat": 2.0, "silence": 3.0},
    {"reconnect_window": -1},
    {"connect_timeout": 0},
    {"chunk_bytes": 0},
    {"window_bytes": 0},
    {"max_links": 0},
    {"max_transfer_bytes": 0},
    {"max_frame_bytes": 2**20},
    {"max_frame_bytes": 2**31},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="transport setting"):
        TransportSettings(**wrong)


def test_settings_do_not_show_their_secrets() -> None:
    assert "hunter2" not in repr(TransportSettings(token="hunter2", client_tokens=("hunter2",)))


LOCAL = ["127.0.0.1:0", "127.8.9.1:80", "[::1]:5", "localhost:7", "unix:/run/x", "memory:a"]
REMOTE = ["0.0.0.0:0", "[::]:0", "10.0.0.1:5", "example.org:443", "192.168.1.2:1"]


@pytest.mark.parametrize("address", LOCAL)
def test_addresses_of_this_machine_need_no_protection(address: str) -> None:
    assert is_local(address)
    TransportSettings().require_guarded(address)


@pytest.mark.parametrize("address", REMOTE)
def test_addresses_beyond_this_machine_need_tls_or_an_explicit_word(address: str, tmp_path: Path) -> None:
    assert not is_local(address)
    with pytest.raises(ConfigError, match="insecure"):
        TransportSettings(token="secret").require_safe(address)
    TransportSettings(insecure=True).require_guarded(address)
    pem = tmp_path / "x.pem"
    pem.touch()
    tls = TLS(certificate=pem, key=pem)
    TransportSettings(token="secret", tls=tls).require_guarded(address)
    with pytest.raises(ConfigError, match="anyone who reaches"):
        TransportSettings(tls=tls).require_guarded(address)
    TransportSettings(tls=TLS(certificate=pem, key=pem, authority=pem)).require_guarded(address)


@pytest.mark.parametrize("address", ["localhost", "localhost:", "localhost:http", "10.0.0.1", "::1:7400", "", 7400])
def test_what_is_no_address_is_called_so_and_not_unprotected(address: Any) -> None:
    with pytest.raises(ConfigError, match=r"is no address: expected .*HOST:PORT"):
        TransportSettings().require_safe(address)


def test_a_port_that_cannot_be_is_refused_and_not_cut_to_another() -> None:
    with pytest.raises(ConfigError, match="'localhost:70000' is no address: ports end at 65535"):
        TransportSettings().require_safe("localhost:70000")


def test_tls_needs_files_that_are_there_and_both_halves_of_a_pair(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    with pytest.raises(ConfigError, match="not a file"):
        TLS(authority=pem)
    pem.touch()
    with pytest.raises(ConfigError, match="go together"):
        TLS(certificate=pem)
