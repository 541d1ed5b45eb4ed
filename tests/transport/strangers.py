"""What strangers say, and members that have lost their minds: frames as bytes, by what they are."""

from __future__ import annotations

from pathlib import Path

from distgrad.transport import TLS
from distgrad.wire import pb


def a_hello(name: str = "friend", **more: object) -> pb.Hello:
    identity = pb.Identity(name=name, incarnation=1, role=pb.ROLE_WORKER)
    return pb.Hello(**{"protocol": 1, "cluster": "test", "token": "test-token", "identity": identity} | more)


def hello(name: str = "friend", **more: object) -> bytes:
    """A first frame that is welcome."""
    return pb.Frame(hello=a_hello(name, **more)).SerializeToString()


STRANGE = {
    "a call": pb.Frame(sequence=1, call=pb.Call()).SerializeToString(),
    "a welcome": pb.Frame(welcome=pb.Welcome()).SerializeToString(),
    "an empty frame": b"",
    "garbage": b"\xff\xfe\xfd" * 100,
    "a hello without a name": hello(identity=pb.Identity(incarnation=1, role=2)),
    "a hello without an incarnation": hello(identity=pb.Identity(name="x", role=2)),
}

AFTER_A_HELLO = {
    "garbage": b"\xff\xfe\xfd",
    "a gap": pb.Frame(sequence=5, call=pb.Call()).SerializeToString(),
    "a call without a number": pb.Frame(call=pb.Call()).SerializeToString(),
    "a second hello": pb.Frame(hello=pb.Hello()).SerializeToString(),
    "a reply to nothing": pb.Frame(sequence=1, reply=pb.Reply(id=3)).SerializeToString(),
    "an acknowledgement of nothing": pb.Frame(acknowledged=9).SerializeToString(),
    "a huge transfer": pb.Frame(sequence=1, chunk=pb.Chunk(transfer=1, total=2**50), payload=b"x").SerializeToString(),
    "an array outside": pb.Frame(
        sequence=1, call=pb.Call(), arrays=[pb.Array(dtype="int8", shape=[9], size=9)]
    ).SerializeToString(),
}


def tls(folder: Path, name: str, authority: str = "authority") -> TLS:
    return TLS(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", authority=folder / f"{authority}.pem")


# Who is refused where TLS is asked for: certificate and authority of the opener.
WITHOUT_CERTIFICATES = {
    "a certificate of another authority": ("stranger", "authority"),
    "an expired certificate": ("expired", "authority"),
    "a listener of another authority": ("client", "other"),
    "no certificate": ("", "authority"),
    "no TLS": ("", ""),
}
