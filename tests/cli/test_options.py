"""Options that commands share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from distgrad.cli.options import link_options
from distgrad.transport.settings import Lossy, TransportSettings


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
    result = CliRunner().invoke(command, ["--token-file", str(token), *options], env=environment)
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
