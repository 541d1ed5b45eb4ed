"""Options that commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from distgrad.cli.options import link_options
from distgrad.transport.settings import Lossy, TransportSettings

TOP = Path(__file__).parents[2]
BINARY = {".pyc"}


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (("--lossy-values", "fp16", "--lossy-gradients", "int8", "--insecure", "--cluster-name", "mine"), {}),
        (
            (),
            {
                "DISTGRAD_LOSSY_VALUES": "fp16",
                "DISTGRAD_LOSSY_GRADIENTS": "int8",
                "DISTGRAD_INSECURE": "1",
                "DISTGRAD_CLUSTER_NAME": "mine",
            },
        ),
    ],
    ids=["options", "environment"],
)
def test_links_are_as_options_or_the_environment_say(
    tmp_path: Path, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    found: list[TransportSettings] = []

    @click.command()
    @link_options
    def command(settings: TransportSettings) -> None:
        found.append(settings)

    token = tmp_path / "token"
    token.write_text("let me in\n")
    named = {"DISTGRAD_TOKEN_FILE": str(token)} if environment else {}
    given = [] if environment else ["--token-file", str(token)]
    result = CliRunner().invoke(command, [*given, *options], env=environment | named)
    assert result.exit_code == 0, result.output
    lossy = Lossy(values="fp16", gradients="int8")
    assert found == [TransportSettings(cluster="mine", token="let me in", insecure=True, lossy=lossy)]


def test_an_unknown_encoding_is_refused_with_those_there_are() -> None:
    @click.command()
    @link_options
    def command(settings: TransportSettings) -> None:
        raise AssertionError(settings)

    result = CliRunner().invoke(command, ["--lossy-values", "zip"])
    assert result.exit_code == 2
    assert "'bf16', 'fp16', 'int8'" in result.output


def test_every_variable_that_recipes_set_is_read() -> None:
    def variables(*folders: str) -> set[str]:
        files = [path for folder in folders for path in (TOP / folder).rglob("*") if path.suffix not in BINARY]
        texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
        return {name for text in texts for name in re.findall(r"\bDISTGRAD_[A-Z_]+[A-Z]", text)}

    assert variables("deploy") - variables("distgrad/cli", "distgrad/cluster") == set()
