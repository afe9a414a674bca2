"""`gradfec-netem`: a UDP relay that makes a good link bad, in a repeatable way."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from gradfec_cli.quantities import datagrams, megabits, milliseconds, percentage
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import Endpoint, EndpointType, plain_errors, version_option
from gradfec_host.short_files import read_short

if TYPE_CHECKING:  # importing numpy and asyncio would slow down --help
    from gradfec_cli.channel import ChannelSettings, Totals
    from gradfec_cli.relay import LossRecord, Relay, Way

F = TypeVar("F", bound=Callable[..., Any])

TOTALS_EVERY_S = 1.0
MAX_TRACE_BYTES = 256 << 20
DEFAULT_MAX_CLIENTS = 256
MAX_MAX_CLIENTS = 10_000

EXAMPLES = """
\b
Examples:
  Lose 20 % of the datagrams to the cloud, in bursts of 8 on average:
    gradfec-netem --listen 9001 --to cloud.example:9000 --loss 20% --burst 8
    gradfec-edge --camera /dev/video0 --cloud localhost:9001 --protect FEC_30_70
\b
  A slow mobile link with a fixed seed: 10 Mbit/s, 40 +- 10 ms each way, some loss each way:
    gradfec-netem --listen 9001 --to localhost:9000 --rate 10 --delay 40 --jitter 10 --loss 2% \\
      --back-delay 40 --back-jitter 10 --back-loss 2% --seed 7
\b
  Record which datagrams are lost, then lose the same ones again:
    gradfec-netem --listen 9001 --to localhost:9000 --loss 30% --record losses.txt
    gradfec-netem --listen 9001 --to localhost:9000 --trace losses.txt
\b
  Change the link while it runs: good for 10 s, then slow for 20 s, then bursty:
    gradfec-netem --listen 9001 --to localhost:9000 --delay 20 --schedule walk.txt
  with these lines in walk.txt, the seconds since the first datagram and the link from then on:
    10 --rate 1 --queue 50 --delay 40
    30 --loss 20% --burst 8 --delay 40
"""


class ChannelOption(NamedTuple):
    """An option that exists for each direction, and the field of ChannelSettings that it sets."""

    name: str
    field: str
    type: Any
    metavar: str
    help: str
    needs: str = ""  # an option without which this one has no effect


CHANNEL_OPTIONS = (
    ChannelOption("loss", "loss", percentage, "SHARE", "Lose this share of the datagrams: 20% or 0.2."),
    ChannelOption(
        "burst", "burst", datagrams, "N", "Lose in bursts of N datagrams on average (Gilbert-Elliott).", "loss"
    ),
    ChannelOption("duplicate", "duplicate", percentage, "SHARE", "Send a second copy of this share of the datagrams."),
    ChannelOption("corrupt", "corrupt", percentage, "SHARE", "Flip one random bit in this share of the datagrams."),
    ChannelOption("rate", "rate_bps", megabits, "MBIT/S", "Limit the rate; 28 B of IP and UDP header count too."),
    ChannelOption(
        "queue",
        "queue_datagrams",
        click.IntRange(0, 1_000_000),
        "N",
        "How many datagrams may wait for --rate; the next is dropped. [default: 1000]",
        "rate",
    ),
    ChannelOption("delay", "delay_s", milliseconds, "MS", "Deliver datagrams this much later."),
    ChannelOption("jitter", "jitter_s", milliseconds, "MS", "Vary --delay by up to this, uniformly; can reorder."),
    ChannelOption(
        "reorder",
        "reorder",
        percentage,
        "SHARE",
        "Hold this share of the datagrams back, so that later ones overtake them.",
    ),
    ChannelOption(
        "reorder-by", "reorder_by_s", milliseconds, "MS", "How long --reorder holds them back. [default: 5]", "reorder"
    ),
)
FILE = click.Path(dir_okay=False, path_type=Path)


def channel_options(prefix: str) -> Callable[[F], F]:
    """Add the options of one direction; those of the way back have a prefix, and their help refers to the others."""

    def add(command: F) -> F:
        files = (
            ChannelOption(
                "trace",
                "",
                FILE,
                "FILE",
                "Lose the datagrams that FILE marks: 0 delivered, 1 lost; repeats at its end.",
            ),
            ChannelOption("record", "", FILE, "FILE", "Write which datagrams are lost, in the format of --trace."),
        )
        for option in reversed(CHANNEL_OPTIONS + files):
            text = f"Like --{option.name}, for the way back." if prefix else option.help
            command = click.option(f"--{prefix}{option.name}", type=option.type, metavar=option.metavar, help=text)(
                command
            )
        return command

    return add


SCHEDULE_OPTION = click.option(
    "--schedule",
    type=FILE,
    metavar="FILE",
    help="Change the link while it runs. A line of FILE is a time in seconds since the first datagram, and this "
    "command's options for each direction, which replace all earlier ones.",
)


def channel_settings(prefix: str, options: dict[str, Any]) -> ChannelSettings:
    """Turn the command's options into one direction's settings; UsageError if they contradict each other."""
    from gradfec_cli.channel import ChannelSettings

    given = {name: options[f"{prefix}{name}".replace("-", "_")] for name in (o.name for o in CHANNEL_OPTIONS)}
    fields: dict[str, Any] = {}
    for option in CHANNEL_OPTIONS:
        if given[option.name] is None:
            continue
        if option.needs and given[option.needs] is None:
            raise UsageError(f"--{prefix}{option.name} has no effect without --{prefix}{option.needs}: give both")
        fields[option.field] = given[option.name]
    trace: Path | None = options[f"{prefix}trace".replace("-", "_")]
    if trace is not None:
        fields["trace"] = read_trace(trace)
    try:
        return ChannelSettings(**fields)
    except UsageError as error:
        raise UsageError(f"the way {'back' if prefix else 'up'}: {error}") from None


def read_trace(path: Path) -> bytes:
    """Read a loss trace; GradfecError if it cannot be read or is not a trace."""
    from gradfec_cli.loss_models import parse_trace

    try:
        text = read_short(path, MAX_TRACE_BYTES).decode(errors="replace")
    except OSError as error:
        raise GradfecError(f"cannot read the trace {path}: {error.strerror}") from None
    return parse_trace(text, str(path))


def open_records(options: dict[str, Any]) -> list[LossRecord | None]:
    """Open both directions' record files; UsageError if one would overwrite another file of this command."""
    from gradfec_cli.relay import LossRecord

    records: list[Path | None] = [options["record"], options["back_record"]]
    used = [path.resolve() for path in [*records, options["trace"], options["back_trace"]] if path is not None]
    for path in records:
        if path is not None and used.count(path.resolve()) > 1:
            raise UsageError(f"{path} is given twice, and recording would overwrite it: record to another file")
    return [None if path is None else LossRecord(path) for path in records]


@click.command(epilog=EXAMPLES)
@click.option(
    "--listen",
    required=True,
    type=EndpointType(""),
    help="Where to take clients' datagrams. PORT alone: on all interfaces.",
)
@click.option("--to", "target", required=True, type=EndpointType(), help="Address of the server.")
@channel_options("")
@channel_options("back-")
@SCHEDULE_OPTION
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Seed: with the same datagrams, it gives the same losses. [default: random]",
)
@click.option(
    "--max-clients",
    type=click.IntRange(1, MAX_MAX_CLIENTS),
    default=DEFAULT_MAX_CLIENTS,
    show_default=True,
    help="Clients at a time. A client that is silent for 60 s is forgotten.",
)
@click.option("--json", "as_json", is_flag=True, help="Print totals as one JSON object a line.")
@version_option
@plain_errors
def main(
    listen: Endpoint,
    target: Endpoint,
    schedule: Path | None,
    seed: int | None,
    max_clients: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Relay UDP both ways between clients and a server, and lose, delay or damage datagrams on the way.

    The plain options are for the way from the clients to the server ("up", from edge to cloud), those that start with
    --back for the replies. Without options, a way is perfect. All clients share the link. The relay prints totals once
    a second, and when SIGINT (Ctrl-C) or SIGTERM ends it. Times are exact to the millisecond.
    """
    import numpy as np

    from gradfec_cli.relay import Relay
    from gradfec_cli.schedule import read_schedule
    from gradfec_cli.udp import Target, refuse_loop
    from gradfec_host.address import resolve
    from gradfec_host.listen import bind_udp

    settings = [channel_settings("", options), channel_settings("back-", options)]
    steps = read_schedule(schedule) if schedule else []
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    resolved = Target(*resolve(target, "--to"))
    refuse_loop(listen, resolved)
    with bind_udp(listen) as listener:
        up, back = two_ways(settings, seed, options)
        relay = Relay(listener, resolved, up, back, max_clients, steps)
        run_until_complete(serve(relay, f"listening on {listen} -> {target}, seed {seed}", as_json))


def two_ways(settings: Sequence[ChannelSettings], seed: int, options: dict[str, Any]) -> tuple[Way[Any], Way[Any]]:
    """Make both directions of a link, and open their record files."""
    import numpy as np

    from gradfec_cli.channel import Channel
    from gradfec_cli.relay import Way

    generators, records = np.random.default_rng(seed).spawn(2), open_records(options)
    ways: list[Way[Any]] = [
        Way(Channel(one, rng), record) for one, rng, record in zip(settings, generators, records, strict=True)
    ]
    return ways[0], ways[1]


def run_until_complete(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop's event loop, or on asyncio's if uvloop is missing."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
    else:
        loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def serve(relay: Relay, banner: str, as_json: bool) -> None:
    """Relay, and print the totals, until a signal stops it."""
    from gradfec_cli.udp import SOCKET_BUFFER_BYTES

    buffer_bytes = relay.start()
    if buffer_bytes < SOCKET_BUFFER_BYTES:
        click.echo(
            f"warning: the system limits receive buffers to {buffer_bytes >> 10} KiB, so bursts may overflow them "
            f"(dropped_kernel): sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES}",
            err=True,
        )
    click.echo(banner, err=True)
    show = show_json if as_json else TextTotals().show
    try:
        while not await relay.wait(TOTALS_EVERY_S):
            show(relay, final=False)
    finally:
        try:
            relay.close()
        finally:  # even if a full disk ended it
            show(relay, final=True)


def show_json(relay: Relay, final: bool) -> None:
    """Print the totals as one JSON object."""
    line: dict[str, Any] = {"t": round(relay.elapsed_s(), 3)}
    line |= {"up": asdict(relay.up.totals), "back": asdict(relay.back.totals)}
    if final:
        line["final"] = True
    click.echo(json.dumps(line))


class TextTotals:
    """Prints the totals as text when they have changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, relay: Relay, final: bool) -> None:
        """Print one line for both directions, without bytes, and without counters that are 0."""
        ways = f"up: {self._words(relay.up.totals)}; back: {self._words(relay.back.totals)}"
        if final or ways != self._last:
            click.echo(f"{relay.elapsed_s():7.1f} s  {'total ' if final else ''}{ways}")
        self._last = ways

    def _words(self, totals: Totals) -> str:
        counters = asdict(totals) | {"received_bytes": 0}
        return ", ".join(f"{n} {count}" for n, count in counters.items() if count or n in ("received", "delivered"))


if __name__ == "__main__":
    main()
