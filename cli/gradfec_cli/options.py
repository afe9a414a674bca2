"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gradfec_cli.quantities import datagrams

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FIT = "fit"  # as many packets as fit a datagram


class PacketsPerDatagram(click.ParamType[int]):
    """A number of at least 1, or `fit`, which becomes 0: click takes None for an option that was not given."""

    name = "N|fit"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a number or `fit`."""
        text = str(value)
        if text == FIT:
            return 0
        if not (text.isascii() and text.isdigit() and int(text)):
            self.fail(f"{text!r} is not a number of packets: use a number of at least 1, or {FIT}", param, ctx)
        return int(text)


def packets_option(default: str = "1") -> Decorator:
    """Return the option `--packets-per-datagram`; its value is None for as many as fit."""
    return click.option(
        "--packets-per-datagram",
        "packets_a_datagram",
        default=default,
        type=PacketsPerDatagram(),
        callback=lambda context, option, value: value or None,
        help=f"Put at most this many packets into a datagram; {FIT}: as many as fit.",
    )


def fec_option(default: str = "zfec") -> Decorator:
    """Return the option `--fec`."""
    return click.option(
        "--fec", default=default, metavar="CODE", help="Erasure code for the parity: zfec, leopard, zfec:256."
    )


codec_option = click.option(
    "--codec", default="auto", metavar="NAME", help="Quantiser, as for gradfec-edge: sqrt4, uniform8 and so on."
)
burst_option = click.option(
    "--burst", default=8, type=datagrams, metavar="N", help="Mean length of a burst of losses; 1: no bursts."
)


def packets_text(packets_a_datagram: int | None) -> str:
    """Write a number of packets a datagram as for the option."""
    return FIT if packets_a_datagram is None else str(packets_a_datagram)
