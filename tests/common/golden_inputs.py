"""The fixed inputs of the golden vectors, and what the second encoder makes of them.

`python -m tests.common.golden_inputs`, in the repository's root, writes the files in tests/common/golden. A line of
such a file is a comment (#), a datagram in hexadecimal, with `position:` before it if it is a SYMBOL, or the number of
datagrams of the whole tensor and the SHA-256 of them all, one after the other in send order.

Each vector is of a session of its own, between the two private keys and under the pre-shared key of `second_seal`. Its
hello says what the vector's edge wants, its welcome 250 ms, and what is sealed begins with counter 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import second_encoder, second_seal
from .second_encoder import CODE_LEOPARD, CODE_NONE, CODE_ZFEC, Block, Tensor

GOLDEN = Path(__file__).with_name("golden")
SESSION = 0x01020304
WELCOMED = {"deadline_ms": 250, "sketches": False}


@dataclass(frozen=True)
class Session:
    """A session between the keys of `second_seal`: its handshake, and the secret of each direction."""

    number: int
    cipher: int
    split: int
    rows: int

    @cached_property
    def hello(self) -> bytes:
        wanted = {"cipher": self.cipher, "split": self.split, "rows": self.rows, "name": "edge 1"}
        return hello(second_encoder.message("HELLO", wanted))

    @cached_property
    def welcome(self) -> bytes:
        return welcome(self.hello, self.number, second_encoder.message("WELCOME", WELCOMED))

    @cached_property
    def secrets(self) -> tuple[bytes, bytes]:
        """From edge to cloud, and from cloud to edge."""
        _, up, down = second_seal.secrets(second_seal.PSK, self.hello, self.welcome, SHARED)
        return up, down

    def seals(self, kind: int, bodies: Sequence[bytes], *, downwards: bool = False) -> list[bytes]:
        """The datagrams of one direction, from its first on."""
        secret = self.secrets[downwards]
        return [
            second_seal.seal(secret, self.cipher, self.number, counter, kind, body)
            for counter, body in enumerate(bodies)
        ]


SHARED = second_seal.exchange(second_seal.EDGE, second_seal.public(second_seal.CLOUD))


def hello(body: bytes) -> bytes:
    return second_seal.hello(second_seal.PSK, second_seal.public(second_seal.EDGE), body)


def welcome(to: bytes, session: int, body: bytes) -> bytes:
    return second_seal.welcome(second_seal.PSK, to, second_seal.public(second_seal.CLOUD), SHARED, session, body)


@dataclass(frozen=True)
class TensorVector:
    """A tensor, the plan it is sent with, and the positions whose datagrams are in the golden file in full."""

    says: str
    split: int
    shape: tuple[int, int, int]
    rows: int
    cipher: int
    number: int
    blocks: Sequence[Block]
    shown: Sequence[int]
    element: Callable[[int], float] = lambda m: (m * 2654435761 % 2**24) / 2**20 - 5.0  # the m-th

    def tensor(self) -> Tensor:
        """Elements spread over [-5, 11), if not said otherwise; each is exact in float32."""
        height, width, channels = self.shape
        count = height * width * channels
        return Tensor(self.split, self.shape, [self.element(m) for m in range(count)])

    def order(self) -> list[tuple[int, int]]:
        """Data before parity, and in turn from each block."""
        every = [(b, i) for b, block in enumerate(self.blocks) for i in range(block.n)]
        return sorted(every, key=lambda symbol: (symbol[1] >= len(self.blocks[symbol[0]].places), symbol[1], symbol[0]))

    @cached_property
    def session(self) -> Session:
        return Session(SESSION, self.cipher, self.split, self.rows)

    @cached_property
    def datagrams(self) -> list[bytes]:
        bodies = second_encoder.symbols(self.tensor(), self.rows, self.blocks, self.number, self.order())
        return self.session.seals(second_seal.SYMBOL, bodies)

    def text(self) -> str:
        datagrams = self.datagrams
        height, width, channels = self.shape
        lines = [
            f"# {self.says}",
            f"# split {self.split} ({height} x {width} x {channels}), rows {self.rows}, "
            f"cipher {self.cipher}, tensor {self.number}",
            f"# the secret from edge to cloud is {self.session.secrets[0].hex()}",
            *(
                f"# block {b}: code {block.code}, n {block.n}, k {len(block.places)}, packets {in_short(block.places)}"
                for b, block in enumerate(self.blocks)
            ),
            *(f"{position}:{datagrams[position].hex()}" for position in self.shown),
            f"{len(datagrams)} {hashlib.sha256(b''.join(datagrams)).hexdigest()}",
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class ControlVector:
    """One control message, in the session of the golden hello and welcome where it does not begin one."""

    says: str
    kind: str
    values: dict[str, object]
    downwards: bool = False

    @property
    def body(self) -> bytes:
        return second_encoder.message(self.kind, self.values)

    def datagram(self) -> bytes:
        match self.kind:
            case "HELLO":
                return hello(self.body)
            case "WELCOME":
                return welcome(CONTROLS["hello"].datagram(), SESSION, self.body)
            case "REFUSE":
                return welcome(CONTROLS["hello"].datagram(), 0, self.body)
        (sealed,) = CONTROL_SESSION.seals(second_seal.MESSAGE, [self.body], downwards=self.downwards)
        return sealed

    def text(self) -> str:
        values = {key: sized(value) for key, value in self.values.items()}
        lines = [f"# {self.says}", f"# {self.kind}: {values}", f"# body {self.body.hex()}", self.datagram().hex()]
        return "\n".join(lines) + "\n"


def sized(value: object) -> object:
    return f"{len(value)} bytes" if isinstance(value, bytes) and len(value) > 16 else value


def in_short(places: Sequence[int]) -> str:
    return str(list(places)) if len(places) <= 8 else f"{list(places[:3])} to {places[-1]}, {len(places)} in all"


TENSORS = {
    "bare": TensorVector(
        "Every packet in one block without parity, the shortest symbols: one element each.",
        *(176, (1, 1, 2048), 1, 1, 0),
        [Block(range(2048), 2048, CODE_NONE)],
        [0, 1, 1023, 2047],
    ),
    "two_blocks": TensorVector(
        "Two blocks, one better protected than the other; the other packets dropped by the plan.",
        *(175, (7, 7, 2048), 7, 2, 65536),
        [Block([9, 2047, 0, 1000], 6, CODE_ZFEC), Block([3, 1024], 5, CODE_ZFEC)],
        range(11),
    ),
    "row_groups": TensorVector(
        "Two row groups a channel, and blocks of both codes, one with k = 1 and one with n = k.",
        *(143, (14, 14, 1024), 7, 1, 255),
        [
            Block([1, 0, 2046], 5, CODE_ZFEC),
            Block([2047, 77], 2, CODE_NONE),
            Block([512], 3, CODE_ZFEC),
            Block([5, 6], 2, CODE_ZFEC),
        ],
        range(12),
    ),
    "single_rows": TensorVector(
        "One row a packet, an input image's shape.",
        *(1, (224, 224, 3), 1, 2, 1),
        [Block([0, 223, 224, 671], 6, CODE_ZFEC)],
        range(6),
    ),
    "early_split": TensorVector(
        "An early split: 56 rows in groups of 7, symbols of 2 + 392 bytes.",
        *(7, (56, 56, 64), 7, 1, 2),
        [Block(range(0, 512, 8), 80, CODE_ZFEC), Block(range(1, 512, 8), 70, CODE_ZFEC)],
        [0, 1, 127, 128, 149],
    ),
    "largest_block": TensorVector(
        "The largest block of code 1.",
        *(176, (1, 1, 2048), 1, 2, 3),
        [Block(range(2047, 1797, -1), 256, CODE_ZFEC)],
        [0, 249, 250, 251, 255],
    ),
    "leopard": TensorVector(
        "Code 2 with less parity than data, as much, and more; symbols of 100 bytes: a chunk of 64 and one of 36.",
        *(143, (14, 14, 1024), 7, 1, 6),
        [
            Block([3, 1, 2], 5, CODE_LEOPARD),  # k = 3, p = 2: the parity is low
            Block([1024, 4, 2040], 6, CODE_LEOPARD),  # 3, 3: the same power of two, k <= p: the parity is low
            Block([7, 99, 640, 6], 7, CODE_LEOPARD),  # 4, 3: the same power of two, k > p: the data is low
            Block([2000, 11], 7, CODE_LEOPARD),  # 2, 5: the data is low
            Block([12], 2, CODE_LEOPARD),
            Block([13, 17], 2, CODE_LEOPARD),
        ],
        [0, 17, 18, 19, 20, 21, 28],
    ),
    "leopard_one_block": TensorVector(
        "Code 2 over 300 packets in one block, more than code 1 has.",
        *(81, (28, 28, 512), 7, 2, 7),
        [Block(range(2047, 1747, -1), 340, CODE_LEOPARD)],
        [0, 299, 300, 339],
    ),
    "leopard_shortest": TensorVector(
        "Code 2 with the shortest symbols that have whole words: 14 elements.",
        *(143, (14, 14, 1024), 1, 1, 8),
        [Block([0, 14335, 100], 8, CODE_LEOPARD)],
        range(8),
    ),
    "constant": TensorVector(
        "All elements are -2.5, so that low = high.",
        *(176, (1, 1, 2048), 1, 1, 4),
        [Block([4, 8, 16], 5, CODE_ZFEC)],
        range(5),
        lambda m: -2.5,
    ),
    "tiny_range": TensorVector(
        "A range that is too small to be divided by: q = 0 throughout.",
        *(176, (1, 1, 2048), 1, 2, 5),
        [Block([0, 1, 2], 4, CODE_ZFEC)],
        range(4),
        lambda m: (m % 3 - 1) * 2.0**-124,
    ),
}

CONTROL_SESSION = Session(SESSION, 1, 175, 7)
# of 2048 packets: each third dropped, bare, or protected; importance by place; a photograph that is only its beginning
SKETCHED = second_encoder.sketch(
    [place % 3 for place in range(2048)],
    [place // 128 for place in range(2048)],
    b"\xff\xd8\xff\xe0" + bytes(range(256)) * 2,
)
SKETCH = second_encoder.in_parts(7, SKETCHED)
CONTROLS = {
    "hello": ControlVector("A new edge.", "HELLO", {"cipher": 1, "split": 175, "rows": 7, "name": "edge 1"}),
    "welcome": ControlVector("The answer.", "WELCOME", WELCOMED, downwards=True),
    "welcome_to_look": ControlVector(
        "The answer of a cloud that would like sketches.",
        "WELCOME",
        {"deadline_ms": 250, "sketches": True},
        downwards=True,
    ),
    **{
        f"refuse_{reason}": ControlVector(
            f"A refusal: {reason}.", "REFUSE", {"reason": reason, "detail": detail}, downwards=True
        )
        for reason, detail in (
            ("split", "this cloud serves the split point conv5_block3_out"),
            ("rows", "this cloud serves 7 rows a packet"),
            ("cipher", "this cloud has no cipher 3"),
            ("full", "64 sessions are open; no more are allowed"),
            ("leaving", "the cloud is shutting down"),
        )
    },
    "ping": ControlVector("Are you there?", "PING", {"padding": b""}),
    "ping_padded": ControlVector("Are you there, and what of my answers?", "PING", {"padding": bytes(300)}),
    "pong": ControlVector("Yes.", "PONG", {}, downwards=True),
    "result_complete": ControlVector(
        "A result without losses.",
        "RESULT",
        {
            "tensor": 0,
            "outcome": "complete",
            "answer": [
                [281, "tabby", 0.5],
                [282, "tiger_cat", 0.25],
                [285, "Egyptian_cat", 0.125],
                [0, "tench", 0.1],
                [999, "toilet_tissue", 0.0],
            ],
            "recovered": 0,
            "missing": 0,
            "stages_ms": {"decode": 1.5, "backend": 20.0},
        },
        downwards=True,
    ),
    "result_partial": ControlVector(
        "A result with losses and a label outside ASCII.",
        "RESULT",
        {
            "tensor": 1,
            "outcome": "partial",
            "answer": [
                [1, "poisson doré", 0.2],
                [2, "a", 0.1],
                [3, "b", 0.1],
                [127, "c", 0.1],
                [128, "label of more than thirty-one bytes", 1e-30],
            ],
            "recovered": 300,
            "missing": 65535,
            "stages_ms": {},
        },
        downwards=True,
    ),
    "report": ControlVector(
        "A report: of eleven datagrams those at 0, 1, 4 and 10 have arrived.",
        "REPORT",
        {"tensor": 1, "sent": 11, "received": 4, "bursts": 2, "arrived": second_encoder.arrived([0, 1, 4, 10], 11)},
        downwards=True,
    ),
    "report_without_map": ControlVector(
        "A report of more datagrams than a map would fit.",
        "REPORT",
        {"tensor": 1, "sent": 8193, "received": 8000, "bursts": 40, "arrived": b""},
        downwards=True,
    ),
    "report_largest_map": ControlVector(
        "A report with the longest map: every third datagram is lost.",
        "REPORT",
        {
            "tensor": 0,
            "sent": 8192,
            "received": 5462,
            "bursts": 2730,
            "arrived": second_encoder.arrived({p for p in range(8192) if p % 3 != 2}, 8192),
        },
        downwards=True,
    ),
    "sketch_data": ControlVector("The last data symbol of a sketch.", "SKETCH", SKETCH[2]),
    "sketch_parity": ControlVector("The last parity symbol of the same.", "SKETCH", SKETCH[-1]),
    "ack": ControlVector("Acknowledgements.", "ACK", {"results": [0, 127, 128, 65536, 4294967295], "reports": []}),
    "ack_many": ControlVector(
        "More acknowledgements than fit a short array.", "ACK", {"results": [3], "reports": list(range(20))}
    ),
    "bye": ControlVector("The edge leaves.", "BYE", {}),
    "bye_of_cloud": ControlVector("The cloud leaves.", "BYE", {}, downwards=True),
}

VECTORS: dict[str, TensorVector | ControlVector] = {**TENSORS, **CONTROLS}


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, vector in VECTORS.items():
        (GOLDEN / f"{name}.hex").write_text(vector.text(), "utf-8")


if __name__ == "__main__":
    main()
