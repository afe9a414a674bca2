"""The first inputs of each target, made from real datagrams: `python -m tests.fuzz.seeds` writes them to the corpus.

What the fuzzer finds is kept beside them under other names.
"""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.reader import Writer
from tests.fuzz.targets import cloud_before, codes, edge_before, key_text
from tests.fuzz.targets.handshake import fixtures
from tests.fuzz.world import PLANS, content

from gradfec_common import wire
from gradfec_common.wire import Ack, Bye, Hello, Ping, Pong, Refuse, Report, Result, SketchPart, Welcome

CORPUS = Path(__file__).parent / "corpus"
MESSAGES = (
    Hello(1, 900, 7, "edge"),
    Welcome(250, True),
    Refuse("full", "the cloud serves 256 edges already"),
    Ping(),
    Pong(),
    Result(3, "partial", [[282, "tiger cat", 0.5], [1, "goldfish", 0.25]], 4, 5, {"decode": 1.5, "back_end": 60.0}),
    Report(3, 11, 4, 2, b"\xc8\x20"),
    Ack([1, 2, 2**32 - 1], [3]),
    Bye(),
    SketchPart(3, 1, 2, b"half of it"),
)
FIELDS = [*wire.SYMBOL_HEADER.fields.values()]
Seeds = dict[str, bytes]


def all_seeds() -> dict[str, Seeds]:
    """Return each target's seeds by their names."""
    return {
        "sort_batch": sort_batch(),
        "messages": {type(message).__name__.lower(): wire.message_body(message) for message in MESSAGES},
        "symbols": symbols(),
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
    """Return whole tensors, lossy ones, and some with a field changed."""
    seeds = {}
    for plan in range(len(PLANS)):
        sent = len(content(plan).bodies)
        for name, places in {"whole": range(sent), "half": range(0, sent, 2), "twice": [*range(4)] * 2}.items():
            writer = Writer().below(plan, len(PLANS)).below(len(places), 24)
            for place in places:
                writer.below(place, sent).below(0, 4)
            seeds[f"{name}_{plan}"] = writer.data
        writer = Writer().below(plan, len(PLANS)).below(len(FIELDS) + 1, 24)
        writer.below(0, sent).below(0, 4)
        for number, (kind, _) in enumerate(FIELDS):
            writer.below(1, sent).below(2, 4).below(number, len(FIELDS)).raw(bytes(kind.itemsize - 1) + b"\2")
        seeds[f"fields_{plan}"] = writer.data
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

    fields = [bytes([at]) + bytes(kind.itemsize - 1) + b"\2" for at, (kind, _) in enumerate(FIELDS)]
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
        "says_all": welcome + b"".join(map(say, range(11))),
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
