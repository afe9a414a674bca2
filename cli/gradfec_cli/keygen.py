"""`gradfec keygen`: make the key that an edge and its cloud share, show it, or copy another machine's."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_common.errors import UsageError
from gradfec_host.console import plain_errors

if TYPE_CHECKING:  # importing the cryptography would slow down --help
    from gradfec_common.keys import Key

EXAMPLES = """
\b
Examples:
  If edge and cloud run on one machine, this is enough:
    gradfec keygen
\b
  An edge on another machine needs the same key. Run the first where the key is, and the second on the edge:
    gradfec keygen --show
    gradfec keygen --paste
\b
  The same, without showing the key on the screen:
    gradfec keygen --show | ssh edge.example gradfec keygen --paste
\b
  A separate key for each edge, for gradfec-cloud --keys keys; the file is named after the edge:
    gradfec keygen --key-file keys/kitchen
    gradfec keygen --key-file keys/kitchen --show | ssh kitchen.example gradfec keygen --paste

Exit status: 0 on success, 1 if a key cannot be read or written, 2 for a wrong option or if there is already a key.
"""


@click.command("keygen", epilog=EXAMPLES)
@click.option(
    "--key-file",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="File of the key. [default: $GRADFEC_KEY_FILE; otherwise key in $GRADFEC_HOME; otherwise gradfec/key in the "
    "platform's directory for settings, on Linux ~/.config/gradfec/key]",
)
@click.option("--show", is_flag=True, help="Print the existing key as one line that you can copy.")
@click.option(
    "--paste",
    is_flag=True,
    help="Store a line that --show printed on another machine, from a hidden prompt or from standard input.",
)
@click.option("--force", is_flag=True, help="Replace an existing key.")
@plain_errors
def keygen(key_file: Path | None, show: bool, paste: bool, force: bool) -> None:
    """Make the key that an edge and its cloud share.

    The key authenticates edge and cloud to each other and encrypts what they send. gradfec-edge and gradfec-cloud find
    it where this command puts it. Keep it secret: anybody who has it can pose as either side.
    """
    if show and (paste or force):
        raise UsageError("--show only reads: do not combine it with --paste or --force")
    from gradfec_common.keys import new_key
    from gradfec_host.key_files import already_there, key_path, read_key, write_key

    path = key_path(key_file)
    option = "" if key_file is None else f" --key-file {shlex.quote(str(path))}"
    if show:
        try:
            key = read_key(path)
        except FileNotFoundError:
            raise UsageError(f"there is no key at {path} to show: make one with `gradfec keygen{option}`") from None
        click.echo("Keep this secret: anybody who reads it can pose as either side.", err=True)
        click.echo(key.token)
        return
    if os.path.lexists(path) and not force:
        raise already_there(path)
    key = _pasted() if paste else new_key(os.urandom)
    write_key(path, key, force=force)
    click.echo(f"key id: {key.id.hex()}\nfile:   {path}")
    if key_file is None:
        click.echo("Next: start gradfec-edge or gradfec-cloud on this machine; they find the key.")
    else:
        click.echo(
            "Next: give the same --key-file to gradfec-edge or gradfec-cloud, or its directory to the cloud's --keys."
        )
    if not paste:
        click.echo(
            f"For the other machine: run `gradfec keygen{option} --show` here, and `gradfec keygen --paste` there."
        )


def _pasted() -> Key:
    """Read a token without showing it on the screen or in the list of processes."""
    from gradfec_host.key_files import MAX_FILE_BYTES, parse_key

    if sys.stdin.isatty():
        return parse_key(str(click.prompt("Key (it is not shown)", hide_input=True, err=True)).encode())
    return parse_key(sys.stdin.buffer.read(MAX_FILE_BYTES))
