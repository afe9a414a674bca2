"""The protocol cores as nodes of the simulated network, and everything that speaks for one or pretends to.

The only module of the simulation that builds a core, makes a datagram, or looks inside; `ledger` watches from within.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.codes import CODES
from gradfec_common.networks import RESNET50, Cut
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import EdgeLimits, EdgeSession, new_hello
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.handshake import HELLO_BYTES, MAX_HELLO_BODY_BYTES, PUBLIC_BYTES, HandshakeKey
from gradfec_common.session.sessions import Session
from gradfec_common.session.tensor import Tensor
from gradfec_common.wire import (
    Ack,
    Bye,
    Drop,
    Hello,
    Kind,
    Message,
    Ping,
    Pong,
    Refuse,
    Report,
    Result,
    SketchPart,
    Welcome,
)
from gradfec_common.wire.symbol import (
    FIXED_BYTES,
    MAX_SENT_PER_PACKET,
    MAX_TENSOR_STRIPES,
    STRIPE,
    STRIPE_BYTES,
    SYMBOL_HEADER,
    TENSOR_BYTES,
    layout_of,
    read_headers,
)

from .ledger import lying, seal_as

Address = tuple[str, int]
CLOUD: Address = ("cloud", 9000)
# fates of authentic datagrams that an honest edge may meet: the cloud has no room, or is leaving
REFUSALS = (Drop.MEMORY_LIMIT, Drop.TENSOR_LIMIT, Drop.OUT_OF_WINDOW, Drop.LEAVING)
# fates that a datagram of an honest edge never meets if it arrives unchanged
UNDESERVED = (
    *(Drop.TOO_SHORT, Drop.TOO_LONG, Drop.NOT_GRADFEC, Drop.UNKNOWN_VERSION, Drop.UNKNOWN_KIND, Drop.BAD_MESSAGE),
    *(Drop.BAD_LENGTH, Drop.UNKNOWN_QUANTISER, Drop.UNKNOWN_CODE, Drop.BAD_PARAMETERS, Drop.CONFLICT),
    *(Drop.DUPLICATE, Drop.UNEXPECTED, Drop.FOREIGN_ADDRESS),
)
# the only possible fates of datagrams that were made without a key, or that were accepted before
POWERLESS = (
    *(Drop.TOO_SHORT, Drop.TOO_LONG, Drop.NOT_GRADFEC, Drop.UNKNOWN_VERSION, Drop.UNKNOWN_KIND, Drop.UNEXPECTED),
    *(Drop.BAD_LENGTH, Drop.UNKNOWN_KEY, Drop.UNKNOWN_SESSION, Drop.RATE_LIMIT),
    *(Drop.FORGED, Drop.REPLAYED, Drop.TOO_OLD),
)


class Entropy:
    """Random bytes that are the same in each run, from a state that can be inspected."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __call__(self, count: int) -> bytes:
        return self.rng.bytes(count)


# --- cores ---


def new_cloud(
    cuts: Sequence[Cut],
    deadline_s: float,
    keys: Mapping[bytes, HandshakeKey],
    limits: CloudLimits,
    rng: np.random.Generator,
) -> CloudSessions:
    """Start a cloud that remembers nothing."""
    return CloudSessions(cuts, deadline_s, keys, Entropy(rng), limits, sketches=True)


def new_edge(
    name: str,
    cuts: Sequence[Cut],
    grid: PacketGrid,
    key: HandshakeKey,
    cipher: Cipher,
    limits: EdgeLimits,
    rng: np.random.Generator,
    now: float,
) -> EdgeSession:
    """Start an edge that knows where the cloud is."""
    hello = new_hello(cuts[0], grid.rows, name, cipher, [(cut, grid.rows) for cut in cuts[1:]])
    return EdgeSession(hello, cuts[0].network.head, key, Entropy(rng), now, limits)


# --- what is inside ---


def sessions_of(cloud: CloudSessions) -> dict[int, Session]:
    """Return the sessions, by number."""
    return {session.id: session for session in cloud._sessions}


def understands(cloud: CloudSessions, core: EdgeSession) -> bool:
    """Return whether the cloud can still follow an edge's keys: it cannot if more than an epoch was lost."""
    session = cloud._sessions.get(core.session)
    if session is None or core._session is None:
        return False
    newest, epoch = session.opener.newest, core._session.sealer._epoch_datagrams
    return core._session.sealer.counter // epoch <= max(newest, 0) // epoch + 1


def tensor_of(cloud: CloudSessions, session: int, number: int) -> Tensor | None:
    """Return a tensor that is not finished yet."""
    mine = cloud._tensors._sessions.get(session)
    return mine.tensors.get(number) if mine else None


def tensors_of(cloud: CloudSessions, sessions: Iterable[int]) -> list[Tensor]:
    """Return the unfinished tensors of those of the sessions that are still open."""
    still = [cloud._tensors._sessions[session] for session in sessions if session in cloud._tensors._sessions]
    return [tensor for mine in still for tensor in mine.tensors.values()]


def newest_of(cloud: CloudSessions, session: int) -> int:
    """Return the number of a session's newest tensor, -1 where it has had none."""
    mine = cloud._tensors._sessions.get(session)
    return mine.window.newest if mine else -1


def finished_of(cloud: CloudSessions, session: int) -> int:
    """Count the numbers of finished tensors that are remembered of a session."""
    mine = cloud._tensors._sessions.get(session)
    return len(mine.window._finished) if mine else 0


def held_by(cloud: CloudSessions, session: int) -> int:
    """Count the bytes of symbols that are held for a session."""
    mine = cloud._tensors._sessions.get(session)
    return mine.held_bytes if mine else 0


def pending_of(cloud: CloudSessions, session: int) -> int:
    """Count the tensors of a session that are with the back-end."""
    mine = cloud._tensors._sessions.get(session)
    return mine.pending if mine else 0


def unacknowledged_of(cloud: CloudSessions, session: int) -> int:
    """Count the answers to a session that are still repeated."""
    return len(cloud._repeater._messages.get(session, ()))


def sketch_bytes_of(cloud: CloudSessions, session: int) -> int:
    """Count the bytes of a session's sketch that are held."""
    sketch = cloud._sketches._newest.get(session)
    return sketch.held_bytes if sketch else 0


def timer_places_of(cloud: CloudSessions) -> list[tuple[int, int]]:
    """Return how many places each heap of timers has, and how many tensors or answers wait in it at most."""
    tensors, repeater = cloud._tensors, cloud._repeater
    unheard = sum(len(mine.unheard) for mine in tensors._sessions.values())
    return [(len(tensors._timers), tensors.open + unheard), (len(repeater._timers), len(repeater))]


def timers_of(cloud: CloudSessions) -> int:
    """Count what the cloud still has to do, at any time."""
    return len(cloud._tensors._timers) + len(cloud._repeater._timers) + (cloud._sessions.look_at is not None)


def settle(cloud: CloudSessions, now: float) -> None:
    """Bring every session's allowance up to date, as each look at it does; nothing else changes."""
    for session in cloud._sessions:
        session.allowance.has_any(now)


def greetings_of(cloud: CloudSessions) -> tuple[int, int]:
    """Count the hellos that the cloud remembers, and the addresses whose hellos it counts."""
    return len(cloud._reception._greeter._greeted), len(cloud._reception._greeter._by_host)


def hello_at_hand(core: EdgeSession) -> bytes:
    """Return the hello whose answer an edge awaits, or nothing."""
    return core._handshake.hello if core._handshake else b""


# --- what key holders say that the cores would not ---


def next_number(core: EdgeSession) -> int:
    """Use up the next tensor number of an edge, which does not open one."""
    tensors = core._tensors
    number, tensors._next_number = tensors._next_number, tensors._next_number + 1
    return number


def symbols_by(core: EdgeSession, tensor: int, bodies: wire.Bytes) -> list[bytes]:
    """Seal (m, bytes) bodies of a tensor as the edge would, whatever they say."""
    assert core._session is not None
    numbered = bodies.copy()
    number = np.frombuffer(tensor.to_bytes(4, "big"), np.uint8)
    numbered[:, TENSOR_BYTES] = number[: numbered.shape[1]]  # a liar's body may be too short for it
    return [row.tobytes() for row in core._session.sealer.seal(Kind.SYMBOL, numbered)]


def lie_in_header(dice: random.Random, bodies: wire.Bytes) -> None:
    """Say something else in one field of (m, bytes) bodies' headers, or in their parameters, in all or in some."""
    headers = read_headers(bodies).copy()
    match dice.choice(["kept", "positions", *["any field"] * 6]):
        case "kept":  # less than is there
            headers["kept"] = dice.choice([1, max(int(headers["kept"][0]) // 2, 1)])
        case "positions":  # those of the next datagrams, which may have come
            headers["position"] = (headers["position"] + dice.choice([1, 2])) % np.maximum(headers["sent"], 1)
        case _:
            _lie_in_any_field(dice, bodies)
            return
    bodies[:, :FIXED_BYTES] = headers.view(np.uint8).reshape(len(bodies), -1)


def _lie_in_any_field(dice: random.Random, bodies: wire.Bytes) -> None:
    stripes, table = int(read_headers(bodies)["stripes"][0]), FIXED_BYTES
    where = slice(None, None, dice.choice([1, 1, 2, 3]))
    fields = [(at, kind.itemsize) for kind, at in SYMBOL_HEADER.fields.values()][1:]
    of_stripes = [(table + at, kind.itemsize) for kind, at in STRIPE.fields.values()]
    at, size = dice.choice([*fields, *fields[:4], *of_stripes, *of_stripes])
    if at >= table:
        at += STRIPE_BYTES * dice.randrange(max(stripes, 1))
    if dice.random() < 0.1:  # the parameters: infinity, NaN, and huge numbers
        at, size = table + STRIPE_BYTES * stripes, 4
        lies = [0x7F80_0000, 0xFF80_0000, 0x7F80_0001, 0x7F7F_FFFF, 0xFF7F_FFFF, 0]
    else:
        most, true = 2 ** (8 * size) - 1, int.from_bytes(bodies[0, at : at + size].tobytes(), "big")
        lies = [0, 1, 2, max(true - 1, 0), min(true + 1, most), most, dice.randint(0, most)]
    if at + size <= bodies.shape[1]:
        bodies[where, at : at + size] = np.frombuffer(dice.choice(lies).to_bytes(size, "big"), np.uint8)


def of_another_group(bodies: wire.Bytes) -> wire.Bytes:
    """Return a body of another group than the first one's, at the position of the first."""
    groups, (_, at) = read_headers(bodies)["group"], SYMBOL_HEADER.fields["position"]
    other = bodies[groups != groups[0]][:1].copy()
    other[:, at : at + 2] = bodies[:1, at : at + 2]
    return other


def lie_inside(dice: random.Random, bodies: wire.Bytes) -> None:
    """Say something else in the symbols of (m, bytes) bodies: lengths, places, or the packets' own bytes."""
    headers = read_headers(bodies)
    start = layout_of(int(headers["stripes"][0]), int(headers["parameters"][0])).header
    at = start + dice.choice([0, 1, 2, 3, dice.randrange(64)])
    bodies[:: dice.choice([1, 2]), at : at + dice.choice([1, 2])] = dice.choice([0, 1, 127, 128, 255])


def made_up(dice: random.Random, count: int) -> wire.Bytes:
    """Make up a tensor of `count` packets that no edge sends: of many stripes, or of many tiny packets."""
    stripes = dice.choice([1, 2, 32])
    groups = dice.choice([1, max(MAX_TENSOR_STRIPES // stripes, 1)])
    sent = MAX_SENT_PER_PACKET * count
    n = sent if groups == 1 else 1
    table, code = np.zeros(stripes, STRIPE), dice.choice([*CODES])
    room = wire.MAX_DATAGRAM_BYTES - wire.SEAL_BYTES - layout_of(stripes, 8).header
    length = dice.choice([2, 4, 32, room // stripes // 2 * 2])
    table["k"], table["length"], table["code"] = dice.choice([1, n]), min(length, room // stripes), code
    header = np.zeros(1, SYMBOL_HEADER)
    header["sent"], header["kept"], header["groups"], header["stripes"] = sent, dice.choice([1, count]), groups, stripes
    header["quantiser"], header["parameters"], header["n"] = QUANTISERS["uniform8"].id, 8, n
    tiny = bytes([1, 0, dice.choice([0, 1, count - 1, 255]), 7])
    symbols = (tiny * wire.MAX_DATAGRAM_BYTES)[: int(table["length"].sum())]
    body = header.tobytes() + table.tobytes() + struct.pack(">ff", 0, 1) + symbols
    some = dice.randint(1, min(sent, 12))
    bodies = np.tile(np.frombuffer(body, np.uint8), (some, 1))
    fixed = bodies[:, :FIXED_BYTES].copy().view(SYMBOL_HEADER)[:, 0]
    fixed["position"] = np.arange(some)
    fixed["index" if groups == 1 else "group"] = np.arange(some) % (n if groups == 1 else groups)
    bodies[:, :FIXED_BYTES] = fixed.view(np.uint8).reshape(some, -1)
    return bodies


def message_by(core: EdgeSession, message: Message | bytes) -> bytes:
    """Seal any message, or any bytes instead of one, as the edge would."""
    assert core._session is not None
    body = message if isinstance(message, bytes) else wire.message_body(message)
    return core._session.sealer.seal_one(Kind.MESSAGE, body)


def miscounted_by(core: EdgeSession, dice: random.Random) -> bytes:
    """Seal a message under a counter that was used, is far ahead or is impossible, or seal it as a symbol."""
    assert core._session is not None
    sealer = core._session.sealer
    used = dice.randrange(max(sealer.counter, 1))
    ahead = sealer.counter + dice.choice([0, 1, 7, 40, 2000, 2**31, 2**61])
    counter = dice.choice([used, ahead, 2**62, 2**64 - 1])
    kind = dice.choice([Kind.MESSAGE, Kind.MESSAGE, Kind.SYMBOL, Kind.HELLO, Kind.WELCOME])
    datagram = seal_as(sealer, kind, counter, wire.message_body(Ping()))
    if counter // sealer._epoch_datagrams <= sealer._epoch.number + 1:  # else nothing that follows would be taken
        sealer.counter = max(sealer.counter, counter + 1)
    return datagram


def lies(dice: random.Random, number: int) -> Message | bytes:
    """Draw a message that an edge must not send, or a lie, or bytes that are no message."""
    some: Sequence[Message | bytes] = (
        Ack([number] * 9, [*range(number % 100)]),
        Ack([*range(100)], [*range(100)]),
        Result(number, "partial", [[1, "a lie", 1.0]], 0, 0, {}),
        Report(number, 1, 0, 9, b"\xff"),
        Welcome(1, True),
        *(a_part(dice, number) for _ in range(4)),
        Hello(1, bytes(16), 900, 7, "an insider"),
        Refuse("full", "a lie"),
        Ping(),
        Pong(),
        Bye(),
        dice.randbytes(dice.choice([1, 2, 20, 1168])),
        b"\x08\x82\xa7results\x91\xce\xff\xff\xff\xff\xa7reports\xc0",
    )
    return dice.choice(some)


def a_part(dice: random.Random, number: int) -> SketchPart:
    """Draw a part of a sketch whose fields need not agree."""
    parts = dice.choice([0, 1, 2, 4, 255])
    data = dice.choice([b"", bytes(1), bytes(11), dice.randbytes(1024), bytes(1024)])
    return SketchPart(dice.choice([number, 0, 1]), dice.choice([0, 1, 3, max(parts - 1, 0), 255]), parts, data)


def odd_hello(key: HandshakeKey, dice: random.Random) -> bytes:
    """Seal a hello that no core would: any bytes, another network or cut, or a public key that makes no secret."""
    public = dice.choice([dice.randbytes(PUBLIC_BYTES), bytes(PUBLIC_BYTES)])
    model, cut = dice.choice([RESNET50.digest, RESNET50.digest, bytes(16)]), dice.choice([900, 18])
    wanted = Hello(dice.choice([1, 2, 0, 255]), model, cut, dice.choice([7, 2, 0, 65_535]), "an insider")
    body = dice.choice([wire.message_body(wanted), dice.randbytes(dice.choice([0, 1, MAX_HELLO_BODY_BYTES]))])
    with lying():
        return key.seal_hello(public, body)


# --- what strangers say: they have no key, and must never be believed ---


def garbage(dice: random.Random) -> bytes:
    """Draw bytes, often after the beginning of a header."""
    noise = dice.randbytes(dice.choice([0, 1, 15, 16, 31, 32, 33, 56, 74, 94, 200, 512, 1199, 1200, 1201, 1400]))
    head = bytes([wire.MAGIC, dice.choice([wire.VERSION, 0, 1]), dice.choice([*Kind, 0, 3, 255]), dice.choice([0, 1])])
    return dice.choice([noise, head + noise[4:]])


def mutated(dice: random.Random, datagram: bytes) -> bytes:
    """Change a few bytes of a datagram, mostly in its header, or change its length."""
    changed = bytearray(datagram)
    for _ in range(dice.choice([1, 1, 2, 5])):
        reach = min(len(changed), dice.choice([wire.OUTER_HEADER_BYTES, wire.OUTER_HEADER_BYTES, len(changed)]))
        if reach:
            changed[dice.randrange(reach)] = dice.choice([0, 1, 2, 17, 127, 255, dice.randrange(256)])
    match dice.choice(["as long", "as long", "as long", "cut", "longer"]):
        case "cut":
            return bytes(changed[: dice.randrange(len(changed) + 1)])
        case "longer":
            return bytes(changed) + dice.randbytes(dice.choice([1, 16]))
    return bytes(changed)


def forged(dice: random.Random, datagram: bytes) -> bytes:
    """Make a datagram of any kind, with the session of a sniffed one and a counter close to it."""
    counter = int.from_bytes(datagram[8:16], "big") + dice.choice([-1, 0, 1, 1, 2, 50, 2**20, 2**62])
    kind = dice.choice([Kind.SYMBOL, Kind.SYMBOL, Kind.MESSAGE, Kind.MESSAGE, Kind.HELLO, Kind.WELCOME])
    length = dice.choice([len(datagram), 33, HELLO_BYTES, 94])
    head = bytes([wire.MAGIC, wire.VERSION, kind, 0]) + datagram[4:8] + (counter % 2**64).to_bytes(8, "big")
    return (head + dice.randbytes(max(length - len(head), 0)))[: max(length, 33)]


def forged_hello(dice: random.Random, key_ids: Sequence[bytes]) -> bytes:
    """Make a hello without a key, but often with the id of a real one."""
    key_id = dice.choice(key_ids) if dice.random() < 0.8 else dice.randbytes(8)
    return bytes([wire.MAGIC, wire.VERSION, Kind.HELLO, 0, 0, 0, 0, 0]) + key_id + dice.randbytes(HELLO_BYTES - 16)
