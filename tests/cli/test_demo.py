"""`gradfec demo`: its photographs and its tables. tests/integration runs it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gradfec_cli.demo import (
    PHOTOGRAPHS,
    UNITS,
    Arm,
    in_short,
    larger_groups,
    photographs,
    show_run,
    side_by_side,
    summary,
)
from gradfec_cli.experiment import DATAGRAM_NAMES, PACKET_NAMES, Link, Record, Run
from gradfec_common.codes import CODES, LEOPARD
from gradfec_common.errors import GradfecError, UsageError


def record(source: str, label: str | None, index: int = 0) -> Record:
    top5 = [] if label is None else [{"class_index": index, "label": label, "score": 0.5}]
    return {"source": source, "top5": top5, "latency_ms": 10.0, "bytes": 5120, **counts(1)}


def counts(each: int) -> Record:
    return {"packets": dict.fromkeys(PACKET_NAMES, each), "datagrams": dict.fromkeys(DATAGRAM_NAMES, each)}


def shown(runs: dict[str, Run], reference: dict[str, tuple[int, str]]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(side_by_side(runs, reference))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_by_default_the_photographs_are_copied_from_scikit_image_and_removed_afterwards() -> None:
    with photographs(None) as folder:
        assert folder.name == "photos"  # on the live page
        assert sorted(path.name for path in folder.iterdir()) == sorted(PHOTOGRAPHS)
    assert not folder.exists()


def test_without_scikit_image_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with (
        pytest.raises(GradfecError, match=r"pip install 'gradfec\[demo\]', or give a folder with --images"),
        photographs(None),
    ):
        pass


def test_a_folder_without_a_readable_image_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no images"), photographs(tmp_path):
        pass
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(GradfecError, match="not an image that can be read"), photographs(tmp_path):
        pass


def test_answers_stand_beside_those_of_the_uncut_model_with_their_agreement() -> None:
    plain = Run([record("cat.png", "tabby", 1), record("dog.png", None)], {}, {})
    protected = Run([record("dog.png", "pug", 2), record("cat.png", "lynx", 3)], {}, {})
    text = shown({"none": plain, "FEC_50_50": protected}, {"cat.png": (1, "tabby"), "dog.png": (2, "pug")})
    cat, dog = (re.split("  +", line.strip()) for line in text.splitlines() if ".png" in line)
    assert cat == ["cat.png", "tabby", "= 0.50", "x lynx 0.50"]
    assert dog == ["dog.png", "pug", "x no answer", "= 0.50"]
    assert text.count("50% of 2") == 2
    assert re.search(r"bytes +a frame +5,120 +5,120", text)


def test_one_sentence_says_what_protection_is_worth() -> None:
    right, wrong = record("cat.png", "tabby", 1), record("cat.png", "lynx", 3)
    runs = {"unprotected": Run([wrong], {}, {}), "paper": Run([right], {}, {}), "protected": Run([right], {}, {})}
    assert in_short(runs, {"cat.png": (1, "tabby")}) == (
        "in short: over this link, 0 of 1 answers are the uncut model's without protection, and 1 of 1 with it, in "
        "5.1 kB a frame; the paper's coding has 1 of 1, in 5.1 kB; this link has room for all of it, so frames are "
        "large"
    )


def test_a_files_name_is_shown_as_it_is_even_where_it_looks_like_markup() -> None:
    assert "[red]a.png" in shown({"none": Run([record("[red]a.png", "tabby")], {}, {})}, {"[red]a.png": (0, "tabby")})


def test_on_80_columns_every_figure_and_every_mark_is_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    one = record("hubble_deep_field.jpg", "American_Staffordshire_terrier")
    one |= {"latency_ms": 1234.0, **counts(2048)}

    def run_over_link(folder: Path, link: Link, port: int, options: list[str], add: Callable[[Record], None]) -> Run:
        assert options == ["--fec", "leopard"]
        add(one)
        add(one | {"top5": [], "latency_ms": None, "packets": {**one["packets"], "recovered": None, "missing": None}})
        return Run([one], {}, {})

    monkeypatch.setattr("gradfec_cli.demo.run_over_link", run_over_link)
    console = Console(file=io.StringIO(), width=80)
    arm = Arm("protected", "FEC_50_50", ["--fec", "leopard"])
    run = show_run(Path(), arm, Link(0.4), 9, console)
    reference = {"hubble_deep_field.jpg": (1, "chambered_nautilus")}
    console.print(side_by_side({"unprotected": run, "paper": run, "protected": run}, reference))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("2048") == 6
    assert [heading for heading in ("sent", "lost", "recovered", "missing", "latency") if heading not in text] == []
    assert UNITS in text
    assert "1234 ms" in text
    assert "None" not in text
    assert text.count("x American") == 3
    assert text.count("0% of 1") == text.count("5,120") == 3


def test_the_summary_has_a_runs_figures() -> None:
    run = Run([record("cat.png", "tabby", 1)], {}, {})
    assert summary(Arm("unprotected", "none", []), Link(0.4), run, {"cat.png": (1, "tabby")}) == {
        "name": "unprotected",
        "protect": "none",
        "loss": 0.4,
        "frames": 1,
        "agreement": 1.0,
        "frame_bytes": 5120,
        **counts(1),
        "latency_ms": {"p50": 10.0, "p95": 10.0},
    }


def test_where_small_groups_miss_packets_one_line_says_that_leopard_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODES, LEOPARD.id, LEOPARD)
    one = record("cat.png", "tabby")
    one["datagrams"] = {**one["datagrams"], "sent": 2048}
    whole = Run([{**one, "packets": {**one["packets"], "missing": 0}}], {}, {})
    partial = Run([{**one, "packets": {**one["packets"], "missing": 120}}], {}, {})
    assert larger_groups("FEC_50_50", partial, "zfec") == (
        "FEC_50_50 still misses 120 packets, because zfec codes small groups, each by itself; "
        "--fec leopard codes a whole frame at once, and would miss fewer"
    )
    assert larger_groups("FEC_50_50", whole, "zfec") == larger_groups("FEC_50_50", partial, "leopard") == ""
    assert larger_groups("none", partial, "zfec") == ""
    few = {**partial.records[0], "datagrams": {**one["datagrams"], "sent": 6}}
    assert larger_groups("FEC_50_50", Run([few], {}, {}), "zfec") == ""  # they are one group already
    monkeypatch.delitem(CODES, LEOPARD.id)
    assert larger_groups("FEC_50_50", partial, "zfec") == ""
