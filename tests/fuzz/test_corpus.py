"""What the fuzzer has found worth keeping holds: every input of the corpus goes through its target."""

import random
from pathlib import Path

import pytest
from tests.fuzz import seeds
from tests.fuzz.reader import MOST_BYTES, Reader, Writer
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*"))
MOST_CORPUS_BYTES = 300_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_kept_input_breaks_no_promise(path):
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_at_all_and_random_ones_break_no_promise(name):
    rng = random.Random(name)
    for size in (0, 1, 2, 7, 60, 500):
        TARGETS[name](rng.randbytes(size))


def test_each_target_has_its_corpus_which_stays_small():
    assert {path.parent.name for path in FILES} == {*TARGETS}
    assert sum(path.stat().st_size for path in FILES) < MOST_CORPUS_BYTES


def test_the_seeds_are_what_their_script_makes():
    for name, made in seeds.all_seeds().items():
        for label, content in made.items():
            assert (CORPUS / name / label).read_bytes() == content, f"{name}/{label}: run python -m tests.fuzz.seeds"


def test_what_is_written_is_what_is_read():
    writer = Writer().number(7).below(300, 1000).piece(b"abc").edits((1, 0xFF), (2, 1)).raw(b"end")
    reader = Reader(writer.data)
    assert reader.number() == 7
    assert reader.below(1000) == 300
    assert reader.piece() == b"abc"
    assert reader.edited(b"\0\0\0") == b"\0\xff\1"
    assert reader.take(MOST_BYTES) == b"end"
    assert not reader.more
    assert (reader.number(4), reader.piece(), reader.edited(b"same")) == (0, b"", b"same")
