"""The command `gradfec`: everything but the daemons. Subcommands are imported only when they are run."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "demo": ("gradfec_lab.demo", "Run the whole system on this machine over a bad link, and compare."),
    "sweep": ("gradfec_lab.sweep", "Measure answers against losses, over a folder of images."),
    "weights": ("gradfec_lab.weights_command", "Fetch, verify and show ResNet-50's ImageNet weights."),
}


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their lines from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradfec")
def main() -> None:
    """Split inference that survives a bad network. The daemons are gradfec-edge, gradfec-cloud and gradfec-netem."""
