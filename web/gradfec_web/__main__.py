"""`python -m gradfec_web`: serve the live page of the records on standard input. The daemons start it themselves."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from gradfec_host.console import Endpoint, EndpointType, plain_errors
from gradfec_web.access import choose_token, open_listener, page_url


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--listen", required=True, type=EndpointType("127.0.0.1"), help="Address of the page.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="File of the token that browsers need; made if it does not exist.  "
    "[default: a new token at each start, none on loopback]",
)
@click.option("--api", is_flag=True, help="Serve the answers to programs, too, below /api.")
@plain_errors
def main(listen: Endpoint, token_file: Path | None, api: bool) -> None:
    """Serve the live page of the records on standard input, until they end. Ctrl-C only concerns the daemon."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    token = choose_token(listen, token_file)
    listener = open_listener(listen)

    click.echo(page_url(listen, token))  # before the import: early browsers wait in the listener's queue

    from gradfec_web.server import serve

    serve(listen, listener, token, sys.stdin.buffer, api=api)


if __name__ == "__main__":
    main()
