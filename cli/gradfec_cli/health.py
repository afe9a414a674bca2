"""`gradfec health`: ask a daemon whether it is alive, or ready; for health checks without curl."""

from __future__ import annotations

import signal
import sys
from http.client import HTTPConnection, HTTPException
from types import FrameType

import click

from gradfec_host.console import CONTEXT, Endpoint, EndpointType, Number
from gradfec_host.logs import printable


@click.command(context_settings=CONTEXT)
@click.argument("endpoint", metavar="[HOST:]PORT", type=EndpointType("127.0.0.1"))
@click.option("--ready", is_flag=True, help="Ask whether it is ready (/readyz), not only alive (/healthz).")
@click.option("--timeout-s", default=10.0, type=Number(0, 3600, min_open=True), help="Wait at most this long.")
def health(endpoint: Endpoint, ready: bool, timeout_s: float) -> None:
    """Ask the daemon that serves --metrics on this port, and print its answer.

    Exit codes: 0 it is alive, or ready; 1 it is not, or does not answer; 2 a wrong option.
    """
    connection = HTTPConnection(endpoint.host or "127.0.0.1", endpoint.port)
    signal.signal(signal.SIGALRM, _give_up)  # a socket's own timeout begins again with each byte
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        answer = connection.getresponse()
        line, well = answer.read(1000).decode(errors="replace").strip(), answer.status == 200
    except (OSError, HTTPException, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        line, well = f"error: no answer from {endpoint}: {reason}", False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.close()
    click.echo(printable(line), err=not well)  # anybody may listen on that port
    sys.exit(not well)


def _give_up(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("timed out")
