"""Who may do what: tokens with roles, from a file that may change; and a line in the audit for every refused call."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distgrad.errors import ConfigError

from .failures import Code, Refused
from .tasks import Client

ROLES = ("client", "worker", "admin")
# The file is looked at again after so many seconds.
RELOAD = 1.0

audit_log = logging.getLogger("distgrad.audit")
logger = logging.getLogger("distgrad.service")


@dataclass(frozen=True)
class Holder:
    """Whose token it is, and what it allows."""

    name: str
    role: str


class Tokens:
    """The tokens of a file, in TOML: a table for each holder, with its role and its token or the token's SHA-256.

        [alice]
        role = "client"
        token_sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

    A file that is changed takes effect within a second; one that has become wrong leaves things as they were.

    Raises:
        ConfigError: the file is not like this. OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked = time.monotonic()
        self._stamp = self._stat()
        self._holders = _read(path)

    def holder(self, digest: str) -> Holder | None:
        """Whose token has this SHA-256; None for nobody's."""
        self._look()
        return self._holders.get(digest)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < RELOAD:
            return
        self._looked = now
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                self._stamp = stamp
                self._holders = _read(self._path)
        except (OSError, ConfigError) as error:
            logger.error("the tokens stay as they were: %s", error)

    def _stat(self) -> tuple[int, int, int]:
        status = os.stat(self._path)
        return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> dict[str, Holder]:
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    holders: dict[str, Holder] = {}
    for name, table in tables.items():
        digest, role = _entry(path, name, table)
        if digest in holders:
            raise ConfigError(f"{path}: [{name}] and [{holders[digest].name}] have one token")
        holders[digest] = Holder(name, role)
    return holders


def _entry(path: Path, name: str, table: Any) -> tuple[str, str]:
    if not isinstance(table, dict) or table.get("role") not in ROLES:
        raise ConfigError(f"{path}: [{name}] needs role = one of {', '.join(ROLES)}")
    unknown = table.keys() - {"role", "token", "token_sha256"}
    token, digest = table.get("token"), table.get("token_sha256")
    if unknown or not (isinstance(token, str) ^ isinstance(digest, str)):
        raise ConfigError(f"{path}: [{name}] has role and either token or token_sha256, found {', '.join(table)}")
    return str(digest).lower() if token is None else digest_of(token), table["role"]


def digest_of(token: str) -> str:
    """The SHA-256 by which a token is looked up: how long that takes tells nothing about the tokens there are."""
    return hashlib.sha256(token.encode()).hexdigest()


class Access:
    """Tells clients apart, and lets them in or not.

    Arguments:
        tokens: None: everyone who reaches the server is a client and an admin.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    def client(self, authorization: str, certificate_name: str, peer: str) -> Client:
        """Who makes a call, or opens a line for many.

        Arguments:
            authorization: what the call's metadata has under that name.
            certificate_name: common name of the client's certificate, which was verified; empty for none.
            peer: where it connects from.

        Raises:
            Refused: tokens are wanted, and it has none or one that nobody has.
        """
        if self._tokens is None:
            return Client(certificate_name or peer, "admin", peer)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Refused(Code.UNAUTHENTICATED, 'a token is needed: the metadata "authorization: Bearer TOKEN"')
        digest = digest_of(token.strip())
        holder = _known(self._tokens, digest)
        return Client(holder.name, holder.role, peer, partial(_require_welcome, self._tokens, digest, holder.name))


def _known(tokens: Tokens, digest: str) -> Holder:
    holder = tokens.holder(digest)
    if holder is None:
        raise Refused(Code.UNAUTHENTICATED, "the token is not known here")
    return holder


def _require_welcome(tokens: Tokens, digest: str, name: str) -> None:
    """For each request of a line: its token may have been taken away since, or given to somebody else, or less."""
    holder = _known(tokens, digest)
    if holder.name != name:
        raise Refused(Code.UNAUTHENTICATED, f"the token is no longer {name}'s")
    require_role(holder, admin=False)


def require_role(client: Client | Holder, admin: bool) -> None:
    """Raises Refused when a client may not make such a call."""
    if client.role == "worker" or (admin and client.role != "admin"):
        wanted = "admin" if admin else "client or admin"
        raise Refused(Code.PERMISSION_DENIED, f"{client.name} has the role {client.role}, and this call needs {wanted}")


def audit(method: str, peer: str, name: str, refused: Refused) -> None:
    """Writes down that a call was refused."""
    line = {
        "time": round(time.time(), 3),
        "event": "refused",
        "method": method,
        "peer": peer,
        "client": name,
        "code": refused.code.name,
        "reason": str(refused),
    }
    audit_log.warning("%s", json.dumps(line))
