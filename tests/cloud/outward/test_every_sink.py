"""The contract of every sink of answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click
import pytest

from gradfec_cloud.cli import main
from gradfec_cloud.outward import SINKS, open_sinks


def options(name: str) -> list[click.Option]:
    """Return a sink's options."""

    @click.command()
    def command() -> None: ...

    for option in SINKS[name].options:
        option(command)
    return [param for param in command.params if isinstance(param, click.Option)]


def nothing() -> dict[str, Any]:
    """Return the options of all sinks, of which none is given."""
    return {str(option.name): None for name in SINKS for option in options(name)}


@pytest.mark.parametrize("name", SINKS)
def test_it_is_off_unless_it_is_asked_for(name: str) -> None:
    assert {option.to_info_dict()["default"] for option in options(name)} == {None}
    assert SINKS[name].open(nothing(), frozenset()) is None


@pytest.mark.parametrize("name", SINKS)
def test_its_options_are_its_own_and_each_says_what_it_does(name: str) -> None:
    assert SINKS[name].name == name
    own = {str(option.name) for option in options(name)}
    others = {str(option.name) for other in SINKS if other != name for option in options(other)}
    assert name in own
    assert not own & others
    assert all(option.help for option in options(name))


def test_the_command_has_each_of_their_options_once() -> None:
    names = Counter(param.name for param in main.params)
    assert [name for name in nothing() if names[name] != 1] == []


def test_no_sink_is_open_without_options() -> None:
    assert open_sinks(nothing(), frozenset()) == {}
