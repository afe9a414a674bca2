"""The first inputs of each target, made from real datagrams: `python -m tests.fuzz.seeds` writes them to the corpus.

What the fuzzer finds is kept beside them under other names.
"""

from __future__ import annotations

from pathlib import Path

from tests.common import second_encoder
from tests.common.small_tensors import OF_PARTS
from tests.fuzz.reader import MOST_BYTES, Writer
from tests.fuzz.symbols_of import FIELDS
from tests.fuzz.targets import cloud_before, codes, edge_before, key_text, pictures
from tests.fuzz.targets.handshake import fixtures
from tests.fuzz.targets.laplace import MOST_LEVELS
from tests.fuzz.world import DEFLATE, KINDS, content

from gradfec_common import wire
from gradfec_common.wire import Ack, Bye, Hello, Ping, Pong, Refuse, Report, Request, Result, SketchPart, Welcome

CORPUS = Path(__file__).parent / "corpus"
MESSAGES = (
    Hello(1, bytes(range(16)), 2, 7, "edge"),
    Welcome(250, True),
    Refuse("full", "the cloud serves 256 edges already"),
    Ping(),
    Pong(),
    Result(3, "partial", [[282, "tiger cat", 0.5], [1, "goldfish", 0.25]], 4, 5, {"decode": 1.5, "back_end": 60.0}),
    Report(3, 11, 4, 2, b"\xc8\x20"),
    Ack([1, 2, 2**32 - 1], [3]),
    Bye(),
    SketchPart(3, 1, 2, b"half of it"),
    Request(3, 14),
)
Seeds = dict[str, bytes]


def all_seeds() -> dict[str, Seeds]:
    """Return each target's seeds by their names."""
    return {
        "sort_batch": sort_batch(),
        "messages": {type(message).__name__.lower(): wire.message_body(message) for message in MESSAGES},
        "symbols": symbols(),
        "inside": inside(),
        "reassembly": reassembly(),
        "quantisers": quantisers(),
        "laplace": of_laplace(),
        "pictures": of_pictures(),
        "codes": of_codes(),
        "handshake": handshake(),
        "seal": seal(),
        "cloud_before": before(len(cloud_before.recorded()), [1], peers=True),
        "cloud_behind": cloud_behind(),
        "sketches": of_sketches(),
        "edge_before": edge_seeds(),
        "edge_behind": edge_behind(),
        "key_text": key_texts(),
    }


def sort_batch() -> Seeds:
    """Return batches with one datagram of each kind, in a wide buffer and in narrow ones."""
    seeds = {}
    for width in (2048, 458, 16):
        writer = Writer().below(width, 2049)
        for datagram in cloud_before.recorded()[:8]:
            writer.number(datagram[2]).piece(datagram[3:]).edits()
        writer.number(1).piece(bytes(1300)).edits().number(3).piece(bytes(40)).edits((1, 3))
        writer.number(1).piece(b"").edits()
        seeds[f"width_{width}"] = writer.data
    return seeds


def symbols() -> Seeds:
    """Return whole tensors and lossy ones, one that keeps more than it says, and one with each field changed."""
    seeds = {}
    for kind in range(len(KINDS)):
        sent = len(content(kind).bodies)
        for name, places in {"whole": range(sent), "lossy": [*range(1, sent, 2), 3, 3]}.items():
            writer = Writer().below(kind, len(KINDS)).below(len(places), 24)
            for place in places:
                writer.below(place, sent).below(0, 4)
            seeds[f"{name}_{kind}"] = writer.data
    sent = len(content(5).bodies)
    writer = Writer().below(5, len(KINDS)).below(len(FIELDS) + 1, 24).below(0, sent).below(0, 4)
    for number, (_, size) in enumerate(FIELDS):
        writer.below(1, sent).below(2, 4).below(number, len(FIELDS)).raw(bytes(size - 1) + b"\2")
    seeds["fields"] = writer.data
    writer = Writer().below(0, len(KINDS)).below(8, 24)
    for place in range(8):
        writer.below(place, 16).below(2, 4).below(4, len(FIELDS)).number(1, 2)  # `kept`
    seeds["kept"] = writer.data
    return seeds


def inside() -> Seeds:
    """Return symbols with packets of one length and of several, with heads that lie, and of any bytes."""

    def entry(size: int, place: int, long: bool = False) -> bytes:
        size_bytes = bytes([1, size]) if size < 40 else b"\0" + size.to_bytes(2, "big")
        return size_bytes + bytes([long, place]) + bytes([place]) * min(size, 300)

    def symbol(*entries: bytes) -> bytes:
        return bytes([1, len(entries)]) + b"".join(entries)

    def head(length: int, symbols: int, most: int = 39) -> bytes:
        return Writer().below(most, 40).below(length - 1, 300).below(symbols - 1, 12).data

    return {
        "alike": head(30, 3) + symbol(entry(7, 1), entry(7, 2)) * 3,
        "ragged": head(200, 2) + symbol(entry(3, 1), entry(130, 2), entry(9, 3)) + symbol(entry(0, 1), entry(5, 5)),
        "lies": head(20, 2) + symbol(entry(5, 1, long=True), entry(39, 2)) + symbol(entry(0x7FFF, 1)),
        "too_many": head(40, 4, most=3) + symbol(*[entry(1, place) for place in range(7)]) * 4,
        "raw": head(12, 1) + b"\0" + Writer().piece(b"\2\0\7ab\x81\0").data,
    }


def reassembly() -> Seeds:
    """Return a tensor in order, one with each field changed, and one among the datagrams of others."""

    def step(place: int, *changes: bytes, kind: int | None = None) -> bytes:
        sent = len(content(kind or 0).bodies)
        writer = Writer().raw(b"\0" if kind is None else bytes([1, kind]))
        return writer.below(place, sent).below(len(changes), 3).raw(b"".join(changes)).below(0, 8).data

    fields = [bytes([number]) + bytes(size - 1) + b"\2" for number, (_, size) in enumerate(FIELDS)]
    edited = Writer().raw(b"\0\1\0\1").edits((30, 1)).data
    return {
        "in_order": b"".join(map(step, range(16))),
        "fields": step(0) + b"".join(step(2, change) for change in fields) + edited,
        "first_fields": b"".join(step(1, change) for change in fields[:8]) + step(3),
        "nested": b"".join(step(place, kind=3) for place in (2, 4, 5, 0, 1)),
        "positions": step(0) + step(1, b"\1\0\0") + step(0, b"\1\0\5") + step(0) + step(1),
        "others": b"".join(step(place, kind=kind) for place in range(4) for kind in range(len(KINDS))),
    }


def quantisers() -> Seeds:
    """Return packets as they are, moved, and changed, and changed parameters, with some quantisers."""
    seeds = {}
    names = sorted({*OF_PARTS, DEFLATE.name})
    for name in ("deflate", "laplace", "local5", "sqrt3", "sqrt4", "uniform5", "uniform8"):
        number = names.index(name)
        writer = Writer().below(number, len(names)).edits().below(6, 24)
        for place in range(5):
            writer.below(place, 12).below(place, 12).below(0, 2)
        seeds[name] = writer.below(7, 12).below(8, 12).below(1, 2).edits((3, 1)).data
    for number in map(names.index, ("laplace", "local5", "sqrt4", "uniform8")):
        changed = Writer().below(number, len(names)).edits((0, 1)).below(1, 24)
        seeds[f"{names[number]}_changed"] = changed.below(3, 12).below(3, 12).below(0, 2).data
    return seeds


def of_laplace() -> Seeds:
    """Return levels of narrow tables and of wide ones, whole, cut short and too long, and bytes that mean nothing."""
    seeds = {"nothing": Writer().below(9, MOST_LEVELS).raw(b"\xff" * 9).data}
    for table in (0, 4, 10, 23):
        largest = second_encoder.LEVEL_TABLES[table][2]
        levels = [(7 * n * n) % (2 * largest + 1) - largest for n in range(30)]
        coded = second_encoder.range_coded(levels, table)
        for name, changed in {"whole": coded, "short": coded[:-2], "long": coded + b"\1\2"}.items():
            seeds[f"{name}_{table}"] = Writer().below(len(levels) - 1, MOST_LEVELS).raw(changed).data
    return seeds


def of_codes() -> Seeds:
    """Return a true block and an untrue one for each door."""
    seeds = {}
    for door, code in enumerate(codes.DOORS):
        head = Writer().below(door, len(codes.DOORS))
        honest = Writer().raw(head.data).below(1, 2).below(1, 8).below(6, 12).below(1, 8).below(5, 12).below(9, 40)
        seeds[f"{code.name}_true"] = honest.number(3).below(8, 13).below(0, 4).data
        wild = Writer().raw(head.data).below(0, 2).number(3, 2).number(5, 2).below(1, 2).below(8, 70).below(4, 160)
        seeds[f"{code.name}_made_up"] = wild.below(0, 2).raw(bytes([4, 0, 1, 3])).below(1, 8).below(0, 2).data
        again = Writer().raw(head.data).below(0, 2).number(3, 2).number(5, 2).below(1, 2).below(8, 70).below(3, 160)
        seeds[f"{code.name}_repeated"] = again.below(0, 2).raw(bytes([4, 4, 1])).below(1, 8).below(0, 2).data
    return seeds


def handshake() -> Seeds:
    """Return each datagram as it is, and with a byte of each field changed."""
    stock = fixtures()[2]
    whole, changed = Writer(), Writer()
    for number in range(len(stock)):
        whole.below(1, 4).below(number, len(stock)).edits()
        changed.below(1, 4).below(number, len(stock)).edits((7 * number, 1))
    return {"as_they_are": whole.data, "changed": changed.data, "raw": Writer().below(0, 4).piece(stock[0]).data}


def seal() -> Seeds:
    """Return datagrams in order, out of order, repeated, over the epochs, and changed."""
    runs = {
        "in_order": range(24),
        "backwards": range(12, 0, -1),
        "epochs": [0, 15, 16, 17, 31, 12, 33, 48, 49, 64, 1],
        "repeated": [3, 3, 4, 4, 3, 20, 4, 20],
    }
    seeds = {}
    for name, counters in runs.items():
        writer = Writer().below(0, 2)
        for counter in counters:
            writer.below(1, 6).below(counter, 80).below(1, 4).below(counter, 80).below(0, 4).edits((20, 4))
        seeds[name] = writer.data
    return seeds


def before(count: int, head: list[int], *, peers: bool) -> Seeds:
    """Return what `throw_all` reads: each recorded datagram as it is, and changed."""
    seeds = {}
    for name, edits in {"as_they_are": (), "changed": ((20, 1),), "sessions": ((7, 1), (15, 1))}.items():
        for first in range(0, count, 7):
            writer = Writer().raw(bytes(head)).below(0, 4).below(min(7, count - first), 8)
            for number in range(first, min(first + 7, count)):
                writer.below(1, 4).below(number, count).edits(*edits)
                if peers:
                    writer.below(number % 3, 3)
            seeds[f"{name}_{first}"] = writer.data
    return seeds


def edge_seeds() -> Seeds:
    """Return the same for an edge at each stage."""
    seeds = {}
    for stage, name in enumerate(edge_before.STAGES):
        made = before(len(edge_before.recorded(stage)), [stage, 1], peers=False)
        seeds |= {f"{name}_{label}": content for label, content in made.items()}
        slow = next(iter(made.values()))[2:]
        seeds[f"{name}_time"] = bytes([stage, 0]) + (slow + b"\2") * 3
    return seeds


def cloud_behind() -> Seeds:
    """Return an insider's whole tensors, lies, messages, new sessions and replays, each beside an honest tensor."""
    honest, deliver, wait = bytes([8, 0, 9]), b"\5", b"\7\2"
    hello, goodbye = bytes([3, 1, 0, 1, 1]), bytes([2, 2, 0, 1])

    def tensor(number: int, plan: int = 0, lost: int = 0) -> bytes:
        return bytes([9, 1, number, plan, lost])

    def symbol(number: int, *changes: bytes, times: int = 0) -> bytes:
        return bytes([0, 0, number, 3, len(changes)]) + b"".join(changes) + bytes([1, 0, times])

    fields = [bytes([number]) + bytes(size - 1) + b"\2" for number, (_, size) in enumerate(FIELDS)]
    sketch = b"".join(
        Writer().raw(bytes([2, 9, number, part, 2])).piece(data).data
        for number in (3, 1, 4)
        for part, data in enumerate((bytes(11), b"\xff" * 9))
    )
    raw = Writer().raw(b"\1\0").below(0, 2).piece(bytes(62)).raw(b"\1\0").below(1, 2).piece(b"\6\x80")
    parts = {
        "tensors": tensor(0) + tensor(1, 1) + tensor(2, 2) + deliver + b"".join(map(tensor, (3, 200, 201, 0))),
        "symbols": symbol(5) * 2 + symbol(5, times=3),
        "fields": b"".join(symbol(6, field) for field in fields),
        "messages": b"".join(bytes([2, kind, 3, 1]) for kind in (0, 1, 3, 4, 5, 6, 7, 8)),
        "sketches": sketch * 2 + deliver + sketch[:40] * 20,
        "goodbye_twice": goodbye * 2 + bytes([2, 0, 0, 1]),
        "hellos": hello * 4,
        "replays": b"".join(bytes([4, 0, number, number % 3]) for number in range(30)),
        "raw": raw.data,
        "shares": (tensor(0, 0, 9) + tensor(1, 0, 9) + deliver + hello) * 3 + tensor(0, 0, 9),
        "sessions": (b"".join(map(tensor, range(4))) + deliver + goodbye + hello) * 2,
    }
    return {name: (honest + part + deliver + wait + part + honest + deliver) * 2 for name, part in parts.items()}


def of_pictures() -> Seeds:
    """Return each format's file whole, with a byte changed, cut off, and other bytes in its place."""
    found: Seeds = {}
    for number, name in enumerate(pictures.STREAMS):
        file = Writer().number(number).number(1)
        found[f"{name}_whole"] = file.data + bytes([0, 0])
        found[f"{name}_changed"] = file.data + Writer().number(1).number(0).below(30, MOST_BYTES).number(255).data
        found[f"{name}_cut"] = file.data + Writer().number(1).number(1).below(200, MOST_BYTES).data
        found[f"{name}_other"] = Writer().number(number).number(0).piece(pictures.sent(name)[:64]).data
    return found


def of_sketches() -> Seeds:
    """Return sketches whole, backwards, mixed, and with each field changed."""
    seeds = {}
    for name, steps in {
        "whole": [(0, part, 0) for part in range(3)],
        "backwards": [(1, part, 0) for part in (2, 1, 0, 0)],
        "mixed": [(number, part, 0) for part in range(3) for number in (0, 1, 2)],
        "changed": [(number, 0, field) for number in (0, 1) for field in range(5)],
    }.items():
        writer = Writer()
        for number, part, field in steps:
            writer.below(number, 3).below(part, 3).below(field, 5).number(2 * (field > 0), 2 if field == 4 else 1)
        seeds[name] = writer.data
    return seeds


def edge_behind() -> Seeds:
    """Return clouds that behave, and clouds that do not."""
    welcome, open_tensor = bytes([0, 0, 1, 0, 25, 1]), b"\5"

    def say(kind: int, number: int = 0) -> bytes:
        return bytes([1, kind, number, 1, 0])

    def wait(number: int) -> bytes:
        return bytes([6, number])

    def repeat(*back: int) -> bytes:
        return bytes([4, len(back) - 1, *back])

    leave, goodbye = bytes([7, 0]), say(5)
    return {
        "behaves": welcome + open_tensor + say(2) + say(3) + open_tensor + wait(1) + say(4),
        "welcomes_again": (welcome + wait(4)) * 3,
        "says_all": welcome + b"".join(map(say, range(13))),
        "asks": welcome
        + open_tensor * 2
        + say(12, 1)
        + b"".join(bytes([1, 12, n, 1, 0]) for n in (7, 1, 3))
        + say(2) * 2,
        "goodbye": welcome + open_tensor + goodbye + wait(2) + repeat(0) + welcome,
        "leaves": welcome + open_tensor + leave + repeat(0, 1) + wait(1) + goodbye,
        "replays": welcome + open_tensor + say(2) + repeat(0, 0, 1, 1) * 3,
        "raw": welcome + b"\3\0" + Writer().piece(b"\6\x87").data,
        "welcome_twice_while_leaving": welcome + wait(4) * 3 + leave + welcome + wait(2) + repeat(0) + wait(2),
    }


def key_texts() -> Seeds:
    """Return tokens and key files, good ones and mistyped ones."""
    seeds = {}
    for number in range(len(key_text.TOKENS)):
        head = Writer().below(number, len(key_text.TOKENS)).data
        seeds[f"good_{number}"] = Writer().raw(head).edits().data
        seeds[f"mistyped_{number}"] = Writer().raw(head).edits((20, 3)).data
    seeds["twice"] = Writer().below(0, 4).edits().raw(b"\n" + key_text.KEY.token.encode()).data
    return seeds


def main() -> None:
    """Write them."""
    for name, made in all_seeds().items():
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for label, content_ in made.items():
            (CORPUS / name / label).write_bytes(content_)


if __name__ == "__main__":
    main()
