"""The ends of a session by hand: a test may say whatever a holder of the key could, not only what the product would."""

from collections.abc import Callable

import numpy as np
from tests.common.small_tensors import CUT, GRID

from gradfec_common import wire
from gradfec_common.ciphers import Cipher
from gradfec_common.keys import Key
from gradfec_common.replay import Verdict
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.handshake import EdgeHandshake, Established, HandshakeKey
from gradfec_common.wire import Hello, Kind, Message

CIPHER = Cipher.AES_256_GCM
WANTED = Hello(CIPHER, CUT.network.digest, CUT.id, GRID.rows, "edge")
KEY, OTHER_KEY, STRANGE_KEY = (HandshakeKey(Key(bytes([number]) * 32)) for number in (1, 2, 3))
PING, PONG, BYE = (wire.message_body(message) for message in (wire.Ping(), wire.Pong(), wire.Bye()))


def entropy_of(seed: int) -> Callable[[int], bytes]:
    """Random bytes that are the same in each run."""
    return np.random.default_rng(seed).bytes


def drawn_handshake(seed: int, wanted: Hello | bytes = WANTED, key: HandshakeKey = KEY) -> EdgeHandshake:
    """An edge's handshake with a hello, or with any bytes as its body."""
    body = wanted if isinstance(wanted, bytes) else wire.message_body(wanted)
    return EdgeHandshake(key, body, entropy_of(seed))


class End:
    """One end of a session: seals what a test wants to say, and opens what the other end says."""

    def __init__(self, established: Established, outgoing: bytes, incoming: bytes, cipher: Cipher) -> None:
        self.number = established.session
        self.sealer = Sealer(outgoing, cipher, established.session)
        self.opener = Opener(incoming, cipher)

    def says(self, *messages: Message | bytes) -> list[bytes]:
        """Seal messages, or any bytes as their bodies, each in a datagram of its own."""
        bodies = [message if isinstance(message, bytes) else wire.message_body(message) for message in messages]
        return [self.sealer.seal_one(Kind.MESSAGE, body) for body in bodies]

    def sends(self, *bodies: bytes) -> list[bytes]:
        """Seal the bodies of symbols."""
        return [self.sealer.seal_one(Kind.SYMBOL, body) for body in bodies]

    def reads(self, datagram: bytes) -> Message:
        """Open a message of the other end, which is authentic and new."""
        body = self.opener.open_one(datagram)
        assert not isinstance(body, Verdict), body
        message = wire.read_message(body)
        assert not isinstance(message, wire.Drop)
        return message


def edge_end(established: Established, cipher: Cipher = CIPHER) -> End:
    """The edge's end."""
    return End(established, established.edge_to_cloud, established.cloud_to_edge, cipher)


def cloud_end(established: Established, cipher: Cipher = CIPHER) -> End:
    """The cloud's end."""
    return End(established, established.cloud_to_edge, established.edge_to_cloud, cipher)


def flipped(datagram: bytes) -> bytes:
    """The datagram with its last bit changed: nobody who has not the key can do better."""
    return datagram[:-1] + bytes([datagram[-1] ^ 1])
