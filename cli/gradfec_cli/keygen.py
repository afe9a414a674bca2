"""`gradfec keygen`: make the key that an edge and its cloud share, show it, or take over another machine's."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_common.errors import UsageError
from gradfec_host.console import plain_errors

if TYPE_CHECKING:  # what derives keys takes longer to import than --help may take to answer
    from gradfec_common.keys import Key

EXAMPLES = """
\b
Examples:
  Edge and cloud on one machine need nothing but:
    gradfec keygen
\b
  An edge elsewhere needs the same key. Where the key is, and then on the edge:
    gradfec keygen --show
    gradfec keygen --paste
\b
  The same without anything on the screen:
    gradfec keygen --show | ssh edge.example gradfec keygen --paste
\b
  A key for each of several edges, for gradfec-cloud --keys keys; the file is named after the edge:
    gradfec keygen --key-file keys/kitchen
    gradfec keygen --key-file keys/kitchen --show | ssh kitchen.example gradfec keygen --paste

Exit status: 0 when it is done, 1 when a key cannot be read or written, 2 for a wrong option and where there is a key
already.
"""


@click.command("keygen", epilog=EXAMPLES)
@click.option(
    "--key-file",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Where the key is kept. [default: $GRADFEC_KEY_FILE; else key in $GRADFEC_HOME; else gradfec/key in the "
    "platform's directory for settings, on Linux ~/.config/gradfec/key]",
)
@click.option("--show", is_flag=True, help="Make nothing; print the key that is there, as one line, to be copied.")
@click.option(
    "--paste",
    is_flag=True,
    help="Make nothing; store such a line from another machine, from a hidden prompt or from standard input.",
)
@click.option("--force", is_flag=True, help="Replace the key that is there.")
@plain_errors
def keygen(key_file: Path | None, show: bool, paste: bool, force: bool) -> None:
    """Make the key that an edge and its cloud share.

    Without it neither talks to the other: with it they know each other, and what they send is encrypted. gradfec-edge
    and gradfec-cloud find it where this command puts it. It is a secret: whoever has it can pose as either.
    """
    if show and (paste or force):
        raise UsageError("--show only reads: give it without --paste and --force")
    from gradfec_common.keys import new_key
    from gradfec_host.key_files import already_there, find_key, key_path, write_key

    if show:
        click.echo("This is a secret: whoever reads it can pose as either side.", err=True)
        click.echo(find_key(key_file).token)
        return
    path = key_path(key_file)
    if os.path.lexists(path) and not force:
        raise already_there(path)
    key = _pasted() if paste else new_key(os.urandom)
    write_key(path, key, force=force)
    click.echo(f"key id:  {key.id.hex()}\nkept in: {path}")
    if key_file is None:
        click.echo("Next: start gradfec-edge or gradfec-cloud on this machine; they find it.")
    else:
        click.echo(
            "Next: give the same --key-file to gradfec-edge or gradfec-cloud, or its directory to the cloud's --keys."
        )
    if not paste:
        option = "" if key_file is None else f" --key-file {shlex.quote(str(path))}"
        click.echo(
            f"The other side, on another machine: `gradfec keygen{option} --show` here, `gradfec keygen --paste` there."
        )


def _pasted() -> Key:
    """Read a token from where neither the screen nor the list of processes shows it."""
    from gradfec_host.key_files import MAX_FILE_BYTES, parse_key

    if sys.stdin.isatty():
        return parse_key(str(click.prompt("Key (it is not shown)", hide_input=True, err=True)).encode())
    return parse_key(sys.stdin.buffer.read(MAX_FILE_BYTES))
