"""The command `gradfec-cloud`: its help, and how soon it answers. tests/integration tests the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gradfec_cloud.cli import main
from gradfec_common.conceal import CONCEALMENTS, DEFAULT_CONCEALMENT
from gradfec_host import extras


def test_help_explains_every_option_and_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    options = (
        "listen",
        "split",
        "fill",
        "backend",
        "deadline-ms",
        "results",
        "metrics",
        "weights",
        "key-file",
        "keys",
        "insecure",
        "http-token",
        "infer",
        "webhook",
        "on",
        "mqtt",
        "home-assistant",
        "workers",
        "ray-address",
        "min-workers",
        "local-fallback",
        "json",
    )
    assert [name for name in options if f"--{name}" not in text] == []
    assert "Exit codes: 0 stopped as asked; 1 something outside failed; 2 a wrong option." in text
    assert "gradfec-cloud --listen 9000" in text


def test_help_names_every_concealment_and_the_default() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"], terminal_width=200).output.split())
    said = text[text.index("--fill ") : text.index("--fill-ms ")]
    assert [name for name in CONCEALMENTS if name not in said] == []
    assert f"[default: {DEFAULT_CONCEALMENT}]" in said


def test_an_unknown_fill_is_refused_at_start_with_those_there_are() -> None:
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", "--fill", "median"])
    assert result.exit_code == 2
    names = ", ".join(["auto", *CONCEALMENTS])
    assert result.output[20:] == f"error: no concealment is called 'median': use one of {names}\n"


def test_a_fill_that_the_split_does_not_have_is_refused_at_start() -> None:
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", "--split", "pool1_pool", "--fill", "mean"])
    assert result.exit_code == 2
    assert result.output[20:] == "error: there are no channel means for the split 'pool1_pool': use --fill zero\n"


@pytest.mark.parametrize("option", ["--key-file", "--keys"])
def test_insecure_excludes_keys(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", "--insecure", option, str(tmp_path)])
    assert result.exit_code == 2
    assert result.output[20:] == "error: --insecure lets everybody in: give it without --key-file and --keys\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--on", "score > 1"), "--on is for a webhook: give it with --webhook URL"),
        (
            ("--webhook", "http://here/", "--on", "score >"),
            "--on 'score >', column 8: expected a number, but the condition",
        ),
        (
            ("--webhook", "http://here/", "--on", "label == tiger_cta"),
            "has the label 'tiger_cta': did you mean tiger_cat",
        ),
        (("--mqtt", "mqtt://here", "--watch-for", "tiger_cta"), "has the label 'tiger_cta': did you mean tiger_cat"),
        (
            ("--infer", "0.0.0.0:9"),
            "--infer 0.0.0.0:9 can be reached from outside: give it a token, with --http-token FILE",
        ),
    ],
)
def test_a_wrong_option_about_answers_outward_is_refused_at_start(options: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", "--insecure", *options])
    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("options", [("--webhook", "ftp://u:secret@here/x"), ("--mqtt", "mqtt://u:secret@here")])
def test_a_wrong_url_is_refused_without_showing_what_may_be_secret(options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", *options])
    assert result.exit_code == 2
    assert "secret" not in result.output


def test_a_back_end_that_there_is_not_is_refused_at_start() -> None:
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", "--backend", "better"])
    assert result.exit_code == 2
    assert result.output[20:] == (
        "error: no back-end is called 'better': use lossy, or a file from gradfec train-backend (.npz)\n"
    )


def test_workers_of_ray_must_not_be_fewer_than_at_least_and_need_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--listen", "127.0.0.1:9", "--insecure", "--split", "pool1_pool", "--workers", "ray"]
    monkeypatch.setattr(extras, "find_spec", lambda module: object())
    found = CliRunner().invoke(main, [*given, "--min-workers", "3", "--max-workers", "2"])
    assert found.exit_code == 2
    assert "--max-workers 2 is less than --min-workers 3" in found.output
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    found = CliRunner().invoke(main, given)
    assert found.exit_code == 2
    assert "Ray is not installed: pip install 'gradfec[ray]'" in found.output
