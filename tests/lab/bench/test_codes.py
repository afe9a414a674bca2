"""`gradfec bench codes` on tiny tensors: what it prints is all there and agrees with itself."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_common.codes import CODES, LEOPARD

TINY = ("--packets", "32", "--symbol-bytes", "4", "--runs", "1")


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "codes", *arguments])


def found(*arguments: str) -> dict:
    done = bench(*TINY, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.leopard
def test_json_has_the_machine_and_a_row_for_each_code_block_and_a() -> None:
    said = found("--drop", "25,50", "--block", "8,16", "--loss", "0,80,100")
    assert {*said} == {"machine", "packets", "symbol_bytes", "runs", "codes"}
    assert (said["packets"], said["symbol_bytes"], said["runs"]) == (32, 4, 1)
    assert [(r["code"], r["drop_percent"], r["blocks"], r["n"], r["k"]) for r in said["codes"]] == [
        ("zfec", 25, 1, 32, 24),  # its own
        ("zfec", 50, 1, 32, 16),
        ("zfec:8", 25, 4, 8, 6),
        ("zfec:8", 50, 4, 8, 4),
        ("zfec:16", 25, 2, 16, 12),
        ("zfec:16", 50, 2, 16, 8),
        ("leopard", 25, 1, 32, 24),
        ("leopard", 50, 1, 32, 16),
    ]
    for row in said["codes"]:
        assert min(row[f"{part}_ms"] for part in ("encode", "decode", "encode_cpu", "decode_cpu")) > 0
        none, some, most = row["protection"]
        a = row["drop_percent"] / 100
        assert [p["loss"] for p in row["protection"]] == pytest.approx([0, 0.8 * a, a])
        assert (none["decodes"], none["missing"]) == (pytest.approx(1), 0)
        assert 1 > some["decodes"] > most["decodes"] > 0
        assert 0 < some["missing"] < most["missing"] < a


def test_longer_blocks_protect_better_below_the_cliff() -> None:
    rows = found("--drop", "50", "--block", "8,16", "--loss", "80")["codes"]
    decodes = [row["protection"][0]["decodes"] for row in sorted(rows, key=lambda row: row["n"])]
    assert decodes == sorted(decodes) and decodes[0] < decodes[-1]


@pytest.mark.leopard
def test_tables_name_the_machine_and_every_row() -> None:
    text = bench(*TINY, "--drop", "50", "--block", "8").stdout
    assert "zfec 1." in text and "Python 3." in text
    assert text.count("4 x (8, 4)") == text.count("zfec:8") == 2
    assert text.count("1 x (32, 16)") == 4  # leopard's, and zfec's own
    assert "lost: 70% of A" in text


def test_where_leopard_is_not_installed_it_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CODES, LEOPARD.id, raising=False)
    assert {row["code"] for row in found("--drop", "50", "--block", "8")["codes"]} == {"zfec", "zfec:8"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--drop", "10,most"), "'most' is not a number: write for example 10,20"),
        (("--drop", "100"), "100 is not in the range from 0.1 to 99"),
        (("--drop", "nan"), "nan is not in the range"),
        (("--block", "257"), "257 is not in the range from 2 to 256"),
        (("--block", "8.5"), "'8.5' is not a number"),
        (("--loss", "-1"), "-1 is not in the range from 0 to 100"),
        (("--symbol-bytes", "5"), "--symbol-bytes 5 is odd, and leopard codes pairs of bytes: use an even number"),
        (("--packets", "1"), "1 is not in the range"),
        (("--runs", "0"), "0 is not in the range"),
        (("--packets", "2", "--drop", "99"), "drops all 2 packets"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options: tuple[str, ...], says: str) -> None:
    done = bench(*TINY, *options)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())
