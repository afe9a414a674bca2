"""Each command in the docs exists, with its options and their values; each make target, too; each setting is a key."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.docs.pages import PAGES, ROOT, blocks, inline, name

from gradfec_cli.cli import main as gradfec
from gradfec_cli.netem import main as netem
from gradfec_cloud.cli import main as cloud
from gradfec_edge.cli import main as edge
from gradfec_host.config import keys_of, parse

COMMANDS: dict[str, click.Command] = {
    "gradfec": gradfec, "gradfec-edge": edge, "gradfec-cloud": cloud, "gradfec-netem": netem,
}  # fmt: skip
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = {*re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)}
OTHERS = {  # options that the docs name of other programs
    "--build-arg", "--init", "--log-driver", "--profile", "--volumes", "--build", "--force-recreate",
}  # fmt: skip


def simple_commands(code: str) -> Iterator[list[str]]:
    """Yield the words of each of our commands in shell code, without what goes before and after it."""
    for line in code.replace("\\\n", " ").splitlines():
        if not re.search(r"(?:^|[\s/])(?:gradfec(?:-\w+)?|make)(?:\s|$)", line):
            continue
        lexer = shlex.shlex(re.sub(r"\d>", ">", line), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not {*word} <= {*"();<>|&"}:
                words.append(word)
            elif words := ours(words):
                yield words
                words = []
            else:
                words = []


def ours(words: list[str]) -> list[str]:
    """Return one of our commands without the variables and programs in front of it, or nothing."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    if words[:1] == ["ssh"]:
        words = words[2:]
    if words and words[0].rpartition("/")[2] in {*COMMANDS, "make"}:
        return [words[0].rpartition("/")[2], *words[1:]]
    return []


def check(words: list[str], *, whole: bool) -> None:
    """Fail if click, or make, would refuse the command; a `whole` one also has everything that is required."""
    if words[0] == "make":
        check_make(words[1:])
        return
    command, args = COMMANDS[words[0]], words[1:]
    context = command.context_class(command, info_name=words[0])
    while isinstance(command, click.Group):
        _, args, _ = command.make_parser(context).parse_args(args)
        if not args:
            return
        found = command.get_command(context, args[0])
        assert found is not None, f"{context.command_path} has no command {args[0]}"
        command, args, context = found, args[1:], found.context_class(found, info_name=args[0], parent=context)
    values, rest, _ = command.make_parser(context).parse_args(args)
    assert not rest, f"{context.command_path} takes no {rest}"
    for param in command.params:
        value = values.get(str(param.name))
        if isinstance(value, str) and not isinstance(param.type, click.Path):
            param.type_cast_value(context, value)
        if whole and param.required and "config" not in values and not {"-h", "--help"} & {*args}:
            assert isinstance(value, str | list | tuple), f"{context.command_path} lacks {param.name}"


def refused(code: str, *, whole: bool) -> Iterator[str]:
    """Yield each of our commands in shell code that would be refused, with the reason."""
    for words in simple_commands(code):
        try:
            check(words, whole=whole)
        except (click.UsageError, AssertionError) as error:  # noqa: PERF203
            yield f"{shlex.join(words)}: {error}"


def check_make(words: list[str]) -> None:
    """Fail if there is no such target, or no such variable."""
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    targets = [word for word in words if "=" not in word]
    assert {*targets} <= TARGETS
    for variable in variables:
        assert re.search(rf"\$\((?:or \$\(|if \$\()?{variable}\b|^{variable} \?=", MAKEFILE, re.MULTILINE), variable
    if targets == ["demo"]:
        check(["gradfec", "demo", *shlex.split(variables.get("ARGS", ""))], whole=True)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_command_in_a_block_of_code_exists_with_its_options(page: Path) -> None:
    assert [*refused("\n".join(blocks(page)), whole=True)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_command_and_each_option_in_the_text_exists(page: Path) -> None:
    assert [*refused("\n".join(inline(page)), whole=False)] == []
    options = {*re.findall(r"^--[\w-]+", "\n".join(inline(page)), re.MULTILINE)}
    assert options - OTHERS <= OPTIONS


def every_option(command: click.Command) -> Iterator[str]:
    """Yield the names of a command's options, and of its commands'."""
    context = command.context_class(command)
    for param in command.get_params(context):
        yield from (*param.opts, *param.secondary_opts)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from every_option(command.get_command(context, each))  # type: ignore[arg-type]


OPTIONS = {option for command in COMMANDS.values() for option in every_option(command)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_block_of_settings_has_keys_of_a_daemon(page: Path, tmp_path: Path) -> None:
    files = [file for block in blocks(page) for file in re.split(r"\n\n(?=# /)", block)]
    for text in files:
        if re.match(r'(?:#.*\n)?\w+ = ["\d]', text):
            (tmp_path / "settings.toml").write_text(text)
            _, settings = parse(tmp_path / "settings.toml")
            cameras = settings.pop("camera") if isinstance(settings.get("camera"), list) else []
            for table in (settings, *cameras):
                assert {*table} <= {*keys_of(edge)} or {*table} <= {*keys_of(cloud)}, text


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("gradfec-edge --camera photos/ --cloud here:1 --cheese yes", "No such option"),
        ("gradfec-edge --camera photos/", "lacks cloud"),
        ("gradfec-edge --camera photos/ --cloud here:1 --fps soon", "not a valid float"),
        ("gradfec-cloud --listen 9000 photos/", "takes no"),
        ("gradfec bench cods", "has no command"),
        ("make tea", "tea"),
        ("make sim SEED=1 SUGAR=2", "SUGAR"),
        ("make demo ARGS=--sugar", "No such option"),
    ],
)
def test_a_command_that_would_be_refused_fails(command: str, why: str) -> None:
    (said,) = refused(f"ls && VARIABLE=1 {command} 2> log  # a comment", whole=True)
    assert said.startswith(command.split(maxsplit=1)[0])
    assert why in said


def test_the_tutorials_video_has_fifteen_seconds(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("skimage", reason="the demo's photographs are missing: pip install 'gradfec[demo]'")
    (code,) = re.findall(r"^    python - <<'END'\n(.*?)^    END", (ROOT / "docs/tutorial.md").read_text(), re.M | re.S)
    subprocess.run([sys.executable, "-c", re.sub("^    ", "", code, flags=re.MULTILINE)], cwd=tmp_path, check=True)
    video = cv2.VideoCapture(str(tmp_path / "pan.avi"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 15 * video.get(cv2.CAP_PROP_FPS) == 75
