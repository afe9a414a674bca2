"""The protocol cores as nodes of the simulated network, and whatever speaks for one or pretends to.

The only module of the simulation that builds a core, makes a datagram, or looks inside. What changes with
authentication changes here: keys for the constructors, sealing instead of checksums, and AUTHENTICATED.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import EdgeLimits, EdgeSession, new_hello
from gradfec_common.session.events import CloudLimits
from gradfec_common.session.records import Session, Tensor
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire import Ack, Bye, Drop, Hello, Kind, Message, Refuse, Report, Result, Welcome

AUTHENTICATED = False  # True: what no key holder has sent changes nothing, and nobody without a key gets an answer

Address = tuple[str, int]
CLOUD: Address = ("cloud", 9000)
# fates of intact datagrams of an open session, for which an honest edge cannot be blamed
REFUSALS = (Drop.MEMORY_LIMIT, Drop.TENSOR_LIMIT, Drop.OUT_OF_WINDOW, Drop.LEAVING)
# fates of datagrams that need no session
NO_SESSION = (
    *("hello", Drop.TOO_SHORT, Drop.NOT_GRADFEC, Drop.TOO_LONG, Drop.BAD_CHECKSUM, Drop.UNKNOWN_VERSION),
    *(Drop.UNKNOWN_KIND, Drop.BAD_MESSAGE, Drop.UNKNOWN_SESSION, Drop.FOREIGN_ADDRESS),
)
# fates that no intact datagram of an honest edge meets
UNDESERVED = (
    *(Drop.TOO_SHORT, Drop.TOO_LONG, Drop.NOT_GRADFEC, Drop.BAD_CHECKSUM, Drop.UNKNOWN_VERSION, Drop.UNKNOWN_KIND),
    *(Drop.BAD_MESSAGE, Drop.BAD_LENGTH, Drop.WRONG_SPLIT, Drop.WRONG_ROWS, Drop.UNKNOWN_QUANTISER, Drop.UNKNOWN_FILL),
    *(Drop.UNKNOWN_CODE, Drop.BAD_PARAMETERS, Drop.CONFLICT, Drop.UNEXPECTED),
)


# --- cores ---


def new_cloud(split: SplitPoint, deadline_s: float, limits: CloudLimits, rng: np.random.Generator) -> CloudSessions:
    """Start a cloud that remembers nothing."""
    return CloudSessions(split, deadline_s, rng, limits)


def new_edge(
    name: str, split: SplitPoint, grid: PacketGrid, limits: EdgeLimits, rng: np.random.Generator, now: float
) -> EdgeSession:
    """Start an edge that knows where the cloud is."""
    return EdgeSession(new_hello(split.id, grid.rows, name, rng), now, limits)


# --- what is inside a cloud ---


def sessions_of(cloud: CloudSessions) -> dict[int, Session]:
    """Return the open sessions, by number."""
    return cloud._sessions


def tensor_of(cloud: CloudSessions, session: int, number: int) -> Tensor | None:
    """Return a tensor that is not finished yet."""
    return cloud._sessions[session].tensors.get(number) if session in cloud._sessions else None


def timers_of(cloud: CloudSessions) -> int:
    """Count what the cloud still has to do, at any time."""
    return len(cloud._timers)


# --- what key holders say that the cores would not ---


def symbols_by(core: EdgeSession, tensor: int, headers: npt.NDArray[Any], symbols: wire.Bytes) -> list[bytes]:
    """Make (m,) headers and (m, length) symbols into datagrams of an edge's session, whatever they say."""
    headers["session"], headers["tensor"] = core.session, tensor
    return [row.tobytes() for row in wire.symbol_datagrams(headers, symbols)]


def control_by(core: EdgeSession, message: Message) -> bytes:
    """Make any message into a datagram of an edge's session."""
    return wire.control_datagram(core.session, message)


def hello_of(core: EdgeSession) -> bytes:
    """Repeat an edge's hello."""
    return wire.control_datagram(core.session, core._hello)


def welcome_of(core: EdgeSession) -> bytes:
    """Repeat the welcome to an edge's session."""
    return wire.control_datagram(core.session, Welcome(core._hello.nonce, 250))


# --- what strangers say: without a key, nothing of this may ever be believed ---


def garbage(dice: random.Random) -> bytes:
    """Draw bytes, often behind the beginning of a header."""
    noise = dice.randbytes(dice.choice([0, 1, 11, 12, 39, 40, 46, 47, 74, 200, 1196, 1200, 1201, 1400]))
    head = bytes([wire.MAGIC, dice.choice([wire.VERSION, 0, 2]), dice.choice([*Kind, 0, 2, 255]), dice.choice([0, 1])])
    return dice.choice([noise, with_tail(head + noise[4:-4]), head + noise[4:]])


def with_tail(body: bytes) -> bytes:
    """End a datagram as a stranger can."""
    return body + zlib.crc32(body).to_bytes(wire.CHECKSUM_BYTES, "big")


def mutated(dice: random.Random, datagram: bytes) -> bytes:
    """Change a few bytes of a datagram, fields of its header most of all, and make its end fit again if one can."""
    changed = bytearray(datagram[: -wire.CHECKSUM_BYTES])
    for _ in range(dice.choice([0, 1, 1, 2, 5])):
        reach = min(len(changed), dice.choice([wire.HEADER_BYTES, len(changed)]))
        if reach:
            changed[dice.randrange(reach)] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
    return with_tail(bytes(changed))


def stray_hello(dice: random.Random, split: SplitPoint, grid: PacketGrid) -> bytes:
    """Make the hello of somebody without a key, mostly a well-formed one."""
    rows = grid.rows if dice.random() < 0.9 else dice.randrange(2**16)
    where = split.id if dice.random() < 0.9 else dice.randrange(2**16)
    return wire.control_datagram(0, Hello(dice.getrandbits(64), where, rows, "a stranger"))


def forged_control(dice: random.Random, datagram: bytes) -> bytes:
    """Make a message in the session that a sniffed datagram shows, of any kind."""
    session = int.from_bytes(datagram[4:8], "big") if len(datagram) >= 8 else 0
    number = dice.choice([0, 1, dice.randrange(100), 2**32 - 1])
    nonce = _nonce_of(datagram) if dice.random() < 0.9 else dice.getrandbits(64)
    messages: Sequence[Message] = (
        Bye(),
        Ack([*range(100)], [*range(100)]),
        Result(number, "complete", [[1, "a lie", 1.0]], 0, 0, {}),
        Report(number, 9, 9, 0),
        Welcome(nonce, 1),
        Refuse(nonce, dice.choice(["full", "rows", "version"]), "a lie"),
        Hello(nonce, dice.randrange(4), dice.randrange(9), "a lie"),
    )
    return wire.control_datagram(session or dice.getrandbits(32), dice.choice(messages))


def forged_symbols(dice: random.Random, datagram: bytes, encoded: EncodedTensor) -> list[bytes]:
    """Make symbols of another tensor in the session that a sniffed datagram shows."""
    session = int.from_bytes(datagram[4:8], "big") if len(datagram) >= 8 else 0
    number = dice.choice([dice.randrange(60), dice.randrange(2**32), 2**32 - 1])
    return [row.tobytes() for row in encoded.datagrams(session, number)]


def _nonce_of(datagram: bytes) -> int:
    control = wire.read_control(np.frombuffer(datagram, np.uint8)) if len(datagram) > 12 else Drop.TOO_SHORT
    return getattr(control[1], "nonce", 0) if isinstance(control, tuple) else 0
