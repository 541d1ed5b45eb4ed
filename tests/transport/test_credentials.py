"""Files for TLS that cannot be used are named, and what is wrong with them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distgrad.errors import ConfigError
from distgrad.transport.credentials import channel_credentials, server_credentials, ssl_context
from distgrad.transport.settings import TLS

USES = {
    "ssl, listening": partial(ssl_context, ssl.PROTOCOL_TLS_SERVER),
    "ssl, connecting": partial(ssl_context, ssl.PROTOCOL_TLS_CLIENT),
    "gRPC, listening": server_credentials,
    "gRPC, connecting": channel_credentials,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"certificate": "noise", "key": "server.key"},
            "the certificate .*noise with the key .*server.key cannot be used",
        ),
        ({"key": "noise"}, "with the key .*noise cannot be used"),
        (
            {"key": "client.key"},
            "with the key .*client.key cannot be used .*mismatch.*: expected files in PEM that belong",
        ),
        ({"key": "locked.key"}, "with the key .*locked.key cannot be used .*a key without a passphrase"),
        ({"authority": "noise"}, "noise cannot be used .*: expected certificates in PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    pki: Path, tmp_path: Path, use: Callable[[TLS], Any], files: dict[str, str], said: str
) -> None:
    (tmp_path / "noise").write_text("no certificate\n")
    good = {"certificate": "server.pem", "key": "server.key", "authority": "authority.pem"}
    tls = TLS(**{what: (tmp_path if name == "noise" else pki) / name for what, name in (good | files).items()})
    with pytest.raises(ConfigError, match=f"^tls: .*{said}"):
        use(tls)
