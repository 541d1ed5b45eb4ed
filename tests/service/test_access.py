"""Tokens are read from a file that may change while the server runs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from distgrad.errors import ConfigError
from distgrad.service import access
from distgrad.service.access import Access, Holder, Tokens, digest_of, require_role
from distgrad.service.failures import Refused
from distgrad.service.tasks import Client


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def holder(tokens: Tokens, token: str) -> Holder | None:
    return tokens.holder(digest_of(token))


ALICE = '[alice]\nrole = "client"\ntoken = "a1"\n'


def test_tokens_are_known_by_themselves_or_by_their_hash(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"b2").hexdigest()
    tokens = Tokens(written(tmp_path / "t", ALICE + f'[bob]\nrole = "admin"\ntoken_sha256 = "{digest.upper()}"\n'))
    alice, bob = holder(tokens, "a1"), holder(tokens, "b2")
    assert alice is not None
    assert bob is not None
    assert (alice.name, alice.role, bob.name, bob.role) == ("alice", "client", "bob", "admin")
    assert holder(tokens, "") is None
    assert holder(tokens, digest) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[alice", "not TOML"),
        ('[alice]\nrole = "king"\ntoken = "x"', "role = one of client, worker, admin"),
        ('[alice]\nrole = "client"', "either token or token_sha256"),
        ('[alice]\nrole = "client"\ntoken = "x"\ntoken_sha256 = "y"', "either token or token_sha256"),
        ('[alice]\nrole = "client"\ntoken = "x"\nnote = "y"', "found role, token, note"),
        ('[a]\nrole = "client"\ntoken = "x"\n[b]\nrole = "client"\ntoken = "x"', r"\[b\] and \[a\] have one token"),
        ("alice = 3", r"\[alice\] needs role"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tokens(written(tmp_path / "t", text))


def test_a_changed_file_takes_effect_and_a_wrong_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "RELOAD", 0.0)
    path = written(tmp_path / "t", ALICE)
    tokens = Tokens(path)
    other = written(tmp_path / "other", ALICE.replace("a1", "a22"))
    os.replace(other, path)
    assert holder(tokens, "a1") is None
    assert holder(tokens, "a22") is not None
    written(path, "[")
    assert holder(tokens, "a22") is not None
    path.unlink()
    assert holder(tokens, "a22") is not None


def test_without_tokens_whoever_is_there_is_known_by_certificate_or_address() -> None:
    open_to_all = Access(None)
    assert open_to_all.client("", "", "ipv4:127.0.0.1:5").name == "ipv4:127.0.0.1:5"
    assert open_to_all.client("", "alice", "ipv4:127.0.0.1:5").name == "alice"


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        ("", "a token is needed"),
        ("Basic a1", "a token is needed"),
        ("a1", "a token is needed"),
        ("Bearer a", "not known"),
    ],
)
def test_who_shows_no_token_that_is_known_is_not_let_in(tmp_path: Path, authorization: str, said: str) -> None:
    guarded = Access(Tokens(written(tmp_path / "t", ALICE)))
    assert guarded.client("bearer a1", "", "p").name == "alice"
    with pytest.raises(Refused, match=said):
        guarded.client(authorization, "", "p")


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (ALICE, None),
        (ALICE.replace("client", "admin"), None),
        (ALICE.replace("client", "worker"), "alice has the role worker"),
        (ALICE.replace("[alice]", "[bob]"), "no longer alice's"),
        (ALICE.replace("a1", "a2"), "not known here"),
        ("", "not known here"),
        ("[", None),  # wrong: nothing changes
    ],
)
def test_who_was_let_in_is_welcome_as_long_as_the_token_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str, said: str | None
) -> None:
    monkeypatch.setattr(access, "RELOAD", 0.0)
    path = written(tmp_path / "t", ALICE)
    alice = Access(Tokens(path)).client("Bearer a1", "", "p")
    alice.require_welcome()
    os.replace(written(tmp_path / "other", later), path)
    if said is None:
        alice.require_welcome()
    else:
        with pytest.raises(Refused, match=said):
            alice.require_welcome()


@pytest.mark.parametrize(
    ("role", "admin", "allowed"),
    [("client", False, True), ("admin", True, True), ("client", True, False), ("worker", False, False)],
)
def test_roles(role: str, admin: bool, allowed: bool) -> None:
    client = Client("a", role, "p")
    if allowed:
        require_role(client, admin)
    else:
        with pytest.raises(Refused, match=f"a has the role {role}"):
            require_role(client, admin)
