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
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from . import second_encoder, second_seal
from .second_encoder import CODE_LEOPARD, CODE_NONE, CODE_ZFEC, Coded, Group, Stripe, packed

GOLDEN = Path(__file__).with_name("golden")
SESSION = 0x01020304
WELCOMED: dict[str, object] = {"deadline_ms": 250, "sketches": False, "forms": [0]}
RESNET50 = bytes.fromhex("2a13713762e6e7a992c754c50b014d40")
UNIFORM8, SQRT4, LAPLACE = 1, 20, 32
TOY = 201  # a quantiser that a test brings along: see `trimmed`


def wanted(cipher: int, cut: int, rows: int) -> dict[str, object]:
    return {"cipher": cipher, "model": RESNET50, "cut": cut, "rows": rows, "name": "edge 1", "also": []}


@dataclass(frozen=True)
class Session:
    """A session between the keys of `second_seal`: its handshake, and the secret of each direction."""

    number: int
    cipher: int
    cut: int
    rows: int

    @cached_property
    def hello(self) -> bytes:
        return hello(second_encoder.message("HELLO", wanted(self.cipher, self.cut, self.rows)))

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
    cut: int
    shape: tuple[int, int, int]
    rows: int
    cipher: int
    number: int
    quantiser: int
    plan: Callable[[Coded], Sequence[Group]]
    shown: Sequence[int]
    element: Callable[[int], float] = lambda m: (m * 2654435761 % 2**24) / 2**20 - 5.0  # the m-th
    reserve: int = 0  # datagrams, the last in send order, that wait for a request
    again: int = 0  # of a second look: how many numbers before it the frame's first tensor is

    @cached_property
    def elements(self) -> list[float]:
        """Elements spread over [-5, 11), if not said otherwise; each is exact in float32."""
        height, width, channels = self.shape
        return [self.element(m) for m in range(height * width * channels)]

    @cached_property
    def coded(self) -> Coded:
        if self.quantiser == TOY:
            return trimmed(self.elements, self.shape, self.rows)
        return second_encoder.code(self.elements, self.shape, self.rows, self.quantiser)

    @cached_property
    def groups(self) -> Sequence[Group]:
        return self.plan(self.coded)

    @cached_property
    def order(self) -> list[second_encoder.Slot]:
        return second_encoder.send_order(self.groups)

    @cached_property
    def session(self) -> Session:
        return Session(SESSION, self.cipher, self.cut, self.rows)

    @cached_property
    def bodies(self) -> list[bytes]:
        return second_encoder.bodies(self.coded, self.groups, self.number, self.order, self.reserve, again=self.again)

    @cached_property
    def datagrams(self) -> list[bytes]:
        return self.session.seals(second_seal.SYMBOL, self.bodies)

    @property
    def unasked(self) -> int:
        return len(self.order) - self.reserve

    @property
    def symbol_bytes(self) -> int:
        return sum(stripe.length for stripe in self.groups[0].stripes)

    def text(self) -> str:
        datagrams = self.datagrams
        height, width, channels = self.shape
        lines = [
            f"# {self.says}",
            f"# cut {self.cut} ({height} x {width} x {channels}), rows {self.rows}, quantiser {self.quantiser}, "
            f"cipher {self.cipher}, tensor {self.number}",
            f"# the secret from edge to cloud is {self.session.secrets[0].hex()}",
            *(
                f"# group {g} (n {group.n}), stripe {s}: code {stripe.code}, k {stripe.k}, {stripe.length} bytes, "
                f"packets {in_short(stripe.symbols)}"
                for g, group in enumerate(self.groups)
                for s, stripe in enumerate(group.stripes)
            ),
            *([f"# the last {self.reserve} datagrams are in reserve"] if self.reserve else []),
            *([f"# a second look: the frame's first tensor is {self.number - self.again}"] if self.again else []),
            f"# the header of the first body is {self.bodies[0][: -self.symbol_bytes].hex()}",
            *(f"{position}:{datagrams[position].hex()}" for position in self.shown),
            f"{len(datagrams)} {hashlib.sha256(b''.join(datagrams)).hexdigest()}",
        ]
        return "\n".join(lines) + "\n"


def trimmed(elements: Sequence[float], shape: tuple[int, int, int], rows: int) -> Coded:
    """The toy quantiser: whole numbers below 256, a byte each; what is zero at a packet's end is left out.

    The first element stays in any case. The parameters are three bytes that mean nothing.
    """
    count = shape[2] * (shape[0] // rows)
    levels = [int(x) for x in elements]
    whole = {place: bytes(second_encoder.packet(levels, shape, rows, place)) for place in range(count)}
    return Coded(TOY, b"toy", {place: data[:1] + data[1:].rstrip(b"\0") for place, data in whole.items()})


def one_each(places: Sequence[int], length: int, code: int) -> Stripe:
    """A packet a symbol."""
    return Stripe([[place] for place in places], length, code)


def in_short(symbols: Sequence[Sequence[int]]) -> str:
    if max(map(len, symbols)) == 1:
        places = [place for (place,) in symbols]
        return str(places) if len(places) <= 8 else f"{places[:3]} to {places[-1]}, {len(places)} in all"
    return " ".join(
        f"[{', '.join(map(str, symbol))}]" if len(symbol) <= 12 else f"[{symbol[0]} to {symbol[-1]}, {len(symbol)}]"
        for symbol in symbols
    )


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


def everything(coded: Coded) -> list[Group]:
    """Every packet, without parity, as many in a datagram as fit."""
    symbols = packed(coded.packets, range(len(coded.packets)), 1024)
    return [Group(len(symbols), [Stripe(symbols, 1024, CODE_NONE)])]


def in_turn(coded: Coded) -> list[Group]:
    """Every fourth packet, one a symbol, dealt to three groups."""
    places = [*coded.packets][::4]
    return [Group(64, [one_each(places[g::3], 396, CODE_ZFEC)]) for g in range(3)]


def several_a_symbol(coded: Coded) -> list[Group]:
    """Forty packets in symbols of eleven: the last has seven, and then zeros."""
    symbols = packed(coded.packets, range(2000, 0, -50), 11 * 101)
    return [Group(6, [Stripe(symbols, 11 * 101, CODE_ZFEC)])]


def three_stripes(coded: Coded) -> list[Group]:
    """The first class is whole with two datagrams, the second with four, the third, which ends early, with all six."""
    first, second, third = range(0, 500, 100), range(1, 1200, 100), range(2, 700, 100)
    entry = 101
    return [
        Group(
            6,
            [
                Stripe(packed(coded.packets, first, 3 * entry), 3 * entry, CODE_ZFEC),
                Stripe(packed(coded.packets, second, 3 * entry + 1), 3 * entry + 1, CODE_ZFEC),
                Stripe([*packed(coded.packets, third, 2 * entry), [], []], 2 * entry, CODE_NONE),
            ],
        )
    ]


def ragged(coded: Coded) -> list[Group]:
    """Packets of all sizes, packed as they fit."""
    return [
        Group(7, [Stripe(packed(coded.packets, range(0, 40, 4), 300), 300, CODE_ZFEC)]),
        Group(6, [Stripe(packed(coded.packets, range(1, 41, 4), 300), 300, CODE_ZFEC)]),
    ]


def fixed(*groups: Group) -> Callable[[Coded], Sequence[Group]]:
    return lambda _: groups


def latent(m: int) -> float:
    """An element for laplace: of one channel near zero, of one some levels wide, of one far apart, of all others 0."""
    spread = {3: 0.2, 1027: 2.0, 2047: 400.0}.get(m % 2048, 0.0)
    return spread * ((m * 2654435761 % 2**24) / 2**23 - 1) ** 3


def few(length: int) -> Callable[[Coded], Sequence[Group]]:
    """Three packets, the first two in one symbol."""
    return fixed(Group(3, [Stripe([[1027, 3], [2047]], length, CODE_ZFEC)]))


PAIR = TensorVector("", *(175, (7, 7, 2048), 7, 1, 9), UNIFORM8, few(104), range(3))
TENSORS = {
    "none": TensorVector(
        "Every packet in one group without parity, 256 in a datagram: one element each.",
        *(176, (1, 1, 2048), 1, 1, 0),
        UNIFORM8,
        everything,
        [0, 7],
    ),
    "paper": TensorVector(
        "As in the paper: one packet a symbol, the least important ones dropped, several groups with parity.",
        *(7, (56, 56, 64), 7, 1, 2),
        UNIFORM8,
        in_turn,
        [0, 1, 127, 128, 191],
    ),
    "packed": TensorVector(
        "Eleven packets a symbol, the last one shorter.",
        *(143, (14, 14, 1024), 7, 2, 65536),
        UNIFORM8,
        several_a_symbol,
        [0, 2, 5],
    ),
    "nested": TensorVector(
        "Three stripes, of other lengths, k and codes; the last two data symbols of the third are empty.",
        *(81, (28, 28, 512), 7, 1, 255),
        SQRT4,
        three_stripes,
        [0, 3, 5],
    ),
    "ragged": TensorVector(
        "Packets of 1 to 171 bytes, of a quantiser that is not in the table.",
        *(81, (28, 28, 512), 7, 2, 17),
        TOY,
        ragged,
        [0, 1, 7, 12],
        lambda m: float(m % 251 * (m // 512 % 196 < m % 512 * 19)),
    ),
    "groups": TensorVector(
        "Groups of all kinds: one with k = 1, one with n = k under a code, one without a code.",
        *(143, (14, 14, 1024), 7, 1, 255),
        UNIFORM8,
        fixed(
            Group(5, [one_each([1, 0, 2046], 101, CODE_ZFEC)]),
            Group(2, [one_each([2047, 77], 101, CODE_NONE)]),
            Group(3, [one_each([512], 101, CODE_ZFEC)]),
            Group(2, [one_each([5, 6], 101, CODE_ZFEC)]),
        ),
        range(12),
    ),
    "single_rows": TensorVector(
        "One row a packet, an input image's shape.",
        *(1, (224, 224, 3), 1, 2, 1),
        UNIFORM8,
        fixed(Group(6, [one_each([0, 223, 224, 671], 228, CODE_ZFEC)])),
        range(6),
    ),
    "largest_group": TensorVector(
        "The largest group of code 1.",
        *(176, (1, 1, 2048), 1, 2, 3),
        UNIFORM8,
        fixed(Group(256, [one_each(range(2047, 1797, -1), 4, CODE_ZFEC)])),
        [0, 249, 250, 251, 255],
    ),
    "leopard": TensorVector(
        "Code 2 with less parity than data, as much, and more; symbols of 102 bytes, a chunk of 64 and one of 38, of "
        "which the last byte of a data symbol is padding.",
        *(143, (14, 14, 1024), 7, 1, 6),
        UNIFORM8,
        fixed(
            Group(5, [one_each([3, 1, 2], 102, CODE_LEOPARD)]),  # k = 3, p = 2: the parity is low
            Group(6, [one_each([1024, 4, 2040], 102, CODE_LEOPARD)]),  # 3, 3: the same power of two: the parity is low
            Group(7, [one_each([7, 99, 640, 6], 102, CODE_LEOPARD)]),  # 4, 3: the same power of two: the data is low
            Group(7, [one_each([2000, 11], 102, CODE_LEOPARD)]),  # 2, 5: the data is low
            Group(2, [one_each([12], 102, CODE_LEOPARD)]),
            Group(2, [one_each([13, 17], 102, CODE_LEOPARD)]),
        ),
        [0, 16, 17, 18, 19, 20, 28],
    ),
    "leopard_one_group": TensorVector(
        "Code 2 over 300 packets in one group, more than code 1 has.",
        *(81, (28, 28, 512), 7, 2, 7),
        UNIFORM8,
        fixed(Group(340, [one_each(range(2047, 1747, -1), 200, CODE_LEOPARD)])),
        [0, 299, 300, 339],
    ),
    "leopard_shortest": TensorVector(
        "Code 2 with symbols of four bytes: two words.",
        *(176, (1, 1, 2048), 1, 1, 8),
        UNIFORM8,
        fixed(Group(8, [one_each([0, 2047, 100], 4, CODE_LEOPARD)])),
        range(8),
    ),
    "reserve": TensorVector(
        "Two stripes in eleven datagrams, of which the last four are sent only if the cloud asks for them.",
        *(175, (7, 7, 2048), 7, 2, 70_000),
        UNIFORM8,
        fixed(Group(11, [one_each([1027, 3], 52, CODE_ZFEC), one_each([2047, 0, 9, 1500, 77, 1], 52, CODE_ZFEC)])),
        [0, 5, 6, 7, 10],
        reserve=4,
    ),
    "again": replace(PAIR, says="The second tensor of a frame.", number=70_000, again=63),
    **{
        f"quantiser_{number}": replace(
            PAIR, says=f"Quantiser {number}: packets of 49 elements of {bits} bits.", quantiser=number, plan=few(length)
        )
        for number, bits, length in (
            (1, 8, 104),
            (2, 7, 92),
            (3, 6, 80),
            (4, 5, 68),
            (5, 4, 56),
            (18, 2, 32),
            (19, 3, 44),
            (20, 4, 56),
            (21, 5, 68),
            (22, 6, 80),
            (44, 4, 72),
            (45, 5, 84),
            (46, 6, 96),
            (47, 7, 108),
            (48, 8, 120),
        )
    },
    "laplace": replace(
        PAIR,
        says="Quantiser 32: a packet of levels near 0, one of levels up to 16, and one whose outermost are cut off.",
        quantiser=LAPLACE,
        plan=few(104),
        element=latent,
    ),
    "laplace_zeros": replace(
        PAIR,
        says="Quantiser 32, and no level but 0: the first packet is sent.",
        quantiser=LAPLACE,
        plan=fixed(Group(2, [one_each([0], 8, CODE_ZFEC)])),
        shown=range(2),
        element=lambda m: 0.0,
    ),
    "constant": replace(PAIR, says="All elements are -2.5, so that low = high.", element=lambda m: -2.5),
    "tiny_range": replace(
        PAIR,
        says="A range that is too small to be divided by: every level is 0.",
        element=lambda m: (m % 3 - 1) * 2.0**-124,
    ),
    "nothing_above_zero": replace(
        PAIR, says="No element is above zero: every level is 0.", quantiser=SQRT4, plan=few(56), element=lambda m: -m
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
    "hello": ControlVector("A new edge.", "HELLO", wanted(1, 175, 7)),
    "hello_two_forms": ControlVector(
        "A new edge, which may also send pictures.", "HELLO", wanted(1, 175, 7) | {"also": [[RESNET50, 1, 7]]}
    ),
    "welcome": ControlVector("The answer.", "WELCOME", WELCOMED, downwards=True),
    "welcome_to_look": ControlVector(
        "The answer of a cloud that would like sketches.",
        "WELCOME",
        WELCOMED | {"sketches": True},
        downwards=True,
    ),
    "welcome_two_forms": ControlVector(
        "The answer of a cloud that takes both forms.", "WELCOME", WELCOMED | {"forms": [0, 1]}, downwards=True
    ),
    **{
        f"refuse_{reason}": ControlVector(
            f"A refusal: {reason}.", "REFUSE", {"reason": reason, "detail": detail}, downwards=True
        )
        for reason, detail in (
            ("model", "this cloud has no network 00112233445566778899aabbccddeeff; it has resnet50"),
            ("cut", "this cloud continues resnet50 from conv5_block3_out: use --split conv5_block3_out on the edge"),
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
        {
            "tensor": 1,
            "sent": 11,
            "received": 4,
            "bursts": 2,
            "arrived": second_encoder.arrived([0, 1, 4, 10], 11),
            "first_us": 1_234_567_890_123,
            "span_us": 80_000,
            "held_us": 30_000,
        },
        downwards=True,
    ),
    "report_without_map": ControlVector(
        "A report of more datagrams than a map would fit.",
        "REPORT",
        {
            "tensor": 1,
            "sent": 8193,
            "received": 8000,
            "bursts": 40,
            "arrived": b"",
            "first_us": 0,
            "span_us": 0,
            "held_us": 4_294_967_295,
        },
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
            "first_us": 1,
            "span_us": 499_999,
            "held_us": 1,
        },
        downwards=True,
    ),
    "sketch_first": ControlVector("The first part of a sketch.", "SKETCH", SKETCH[0]),
    "sketch_last": ControlVector("The last part of the same.", "SKETCH", SKETCH[-1]),
    "request": ControlVector(
        "A request for all datagrams below position 14.", "REQUEST", {"tensor": 70_000, "until": 14}, downwards=True
    ),
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
