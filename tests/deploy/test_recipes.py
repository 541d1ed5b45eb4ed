"""The files for operators: each is what its tool takes, and every command in them is one that `distgrad` has."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from distgrad.cli.commands import COMMANDS

from .kubernetes_fields import mistakes

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = [DEPLOY / "kubernetes" / f"{name}.yaml" for name in ("coordinator", "workers", "runs", "train")]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


# ---- every command is one of distgrad's ------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Where a command stands, and its words after `distgrad`."""
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=\S+/distgrad (.*)$", unit.read_text(), re.MULTILINE):
            yield unit.name, shlex.split(line)
    for name, service in documents(DEPLOY / "docker" / "compose.yaml")[0]["services"].items():
        yield f"compose {name}", service["command"]
        if "healthcheck" in service:
            yield f"compose {name} health", service["healthcheck"]["test"][2:]
    for manifest in [document for path in MANIFESTS for document in documents(path)]:
        for container in manifest["spec"].get("template", {}).get("spec", {}).get("containers", []):
            yield f"kubernetes {container['name']}", container["args"]
    yield "rayjob", shlex.split(documents(DEPLOY / "ray" / "rayjob.yaml")[0]["spec"]["entrypoint"])[1:]
    for script in (DEPLOY / "slurm" / "train.sbatch", DEPLOY / "ray" / "submit.sh"):
        for line in re.findall(r"^[^#\n]*\bdistgrad ((?:train|worker|coordinator) .*?)&?$", script.read_text(), re.M):
            yield script.name, shlex.split(line.replace('"$@"', "job.toml"))


@pytest.mark.parametrize("words", [pytest.param(words, id=where) for where, words in commands()])
def test_a_command_of_a_recipe_is_one_that_distgrad_takes(words: list[str]) -> None:
    name, *options = words
    assert name in COMMANDS
    command: click.Command = getattr(import_module(f"distgrad.cli.{name}"), name)
    with command.make_context(name, [option.replace("$SLURM_NTASKS", "2") for option in options]):
        pass


def test_all_recipes_have_commands() -> None:
    assert {where.split()[0] for where, _ in commands()} == {
        "compose",
        "distgrad-coordinator.service",
        "distgrad-worker@.service",
        "kubernetes",
        "rayjob",
        "submit.sh",
        "train.sbatch",
    }


# ---- what their tools say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=[path.stem for path in MANIFESTS])
def test_a_manifest_has_the_fields_of_kubernetes_api(path: Path) -> None:
    assert [mistake for document in documents(path) for mistake in mistakes(document)] == []


def test_a_mistake_in_a_manifest_is_found() -> None:
    probe = documents(MANIFESTS[0])[1]
    container = probe["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"]["grpc"] = {"prot": 7401}
    container["args"] = "coordinator"
    del probe["spec"]["selector"]
    found = "\n".join(mistakes(probe))
    assert "unknown field prot" in found
    assert "args: expected a list" in found
    assert re.search(r"Deployment.spec: .*\bselector\b", found, re.DOTALL)


def test_every_probe_asks_the_port_at_which_health_is_told() -> None:
    probed = 0
    for manifest in [document for path in MANIFESTS for document in documents(path)]:
        for container in manifest["spec"].get("template", {}).get("spec", {}).get("containers", []):
            told = re.search(r"insecure-health[= ]\S+:(\d+)", " ".join(container["args"]))
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    probed += 1
                    assert told is not None
                    assert container[probe]["grpc"]["port"] == int(told[1])
    assert probed == 5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
@pytest.mark.parametrize("unit", UNITS, ids=[unit.name for unit in UNITS])
def test_systemd_takes_a_unit(unit: Path, tmp_path: Path) -> None:
    installed = unit.read_text().replace("/opt/distgrad/bin/distgrad", shutil.which("true") or "/bin/true")
    (tmp_path / unit.name).write_text(installed)
    # It warns of units of the machine, too.
    verified = subprocess.run(["systemd-analyze", "verify", tmp_path / unit.name], capture_output=True, text=True)
    assert "distgrad" not in verified.stderr


def test_units_restart_with_the_same_name() -> None:
    worker = configparser.ConfigParser(strict=False, interpolation=None)
    worker.optionxform = str  # type: ignore[assignment, method-assign]
    worker.read(DEPLOY / "systemd" / "distgrad-worker@.service")
    assert worker["Service"]["Restart"] == "always"
    assert "DISTGRAD_NAME=%l-%i" in worker["Service"]["Environment"]


@pytest.mark.slow
@pytest.mark.ray
def test_ray_takes_its_cluster_file() -> None:
    import jsonschema
    import ray

    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(documents(DEPLOY / "ray" / "cluster.yaml")[0], json.loads(schema.read_text()))


def test_the_image_gets_what_the_dockerfile_copies_and_nothing_else() -> None:
    folder = DEPLOY / "docker"
    copied = {
        source
        for line in re.findall(r"^COPY (.*)$", (folder / "Dockerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    }
    lines = (folder / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert copied == {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)


# ---- scripts ---------------------------------------------------------------------------------------------------------


def test_certificates_hold_are_readable_by_their_owner_alone_and_not_made_twice(tmp_path: Path) -> None:
    command = [DEPLOY / "certificates.sh", tmp_path / "tls"]
    subprocess.run(command, check=True, capture_output=True)
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", "authority.pem", "node.pem"]
    assert subprocess.run(verify, cwd=tmp_path / "tls", capture_output=True, text=True).stdout == "node.pem: OK\n"
    for name in ("token", "node.key", "node.pem", "authority.pem", "distgrad.env"):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) & 0o077 == 0
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert "holds an authority already" in again.stderr


STAND_INS = {
    # Two tasks, each with its number.
    "srun": """
for number in 0 1; do SLURM_PROCID=$number "${@:2}" & done
trap 'kill $(jobs -p)' TERM
wait
""",
    "hostname": "echo 127.0.0.1",
    "distgrad": f'exec {sys.executable} -m distgrad "$@"',
}


def free_port(ports: range) -> int:
    for port in ports:
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError(f"no port of {ports} is free")


@pytest.mark.slow
def test_the_batch_script_trains_a_job_under_stand_ins_for_slurm(tmp_path: Path) -> None:
    for name in ("deploy", "workers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bin").mkdir()
    for name, script in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    subprocess.run(["deploy/certificates.sh", "tls"], cwd=tmp_path, check=True, capture_output=True)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": str(free_port(range(7400, 8400)) - 7400),
    }
    done = subprocess.run(
        ["bash", "deploy/slurm/train.sbatch", "deploy/jobs/digits.toml", "--set", "steps=20"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"; 2 of 2 workers are here$", done.stdout, re.MULTILINE)
    assert re.search(r"^done: ", done.stdout, re.MULTILINE)
