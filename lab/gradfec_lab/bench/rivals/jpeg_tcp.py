"""JPEG over one TCP connection, through the kernel's own TCP: its IP packets pass the injector's channel.

The camera's end codes the newest frame whenever the connection takes one. The far end decodes and classifies each, and
answers over the same connection.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from gradfec_cli.daemons import daemon
from gradfec_common.errors import GradfecError
from gradfec_lab.bench.rivals import namespaces
from gradfec_lab.bench.rivals.footage import FPS, Playback
from gradfec_lab.bench.rivals.jpeg import without_parity
from gradfec_lab.bench.rivals.pictures import from_jpeg, to_jpeg
from gradfec_lab.bench.rivals.rival import GRACE_S, LEAD_IN_S, Answer, Flow, Run
from gradfec_lab.bench.rivals.tunnel import READY

TUNNEL = (sys.executable, "-m", "gradfec_lab.bench.rivals.tunnel")
PORT = 9000
CONNECT_S = 30.0
UNSENT_BYTES = 4096  # when the kernel holds this many, the next frame waits: it would only grow old there
CONGESTION = b"bbr"  # where the kernel has it: losses that are no congestion slow it down least
FRAME = struct.Struct("!II")  # number, bytes of JPEG that follow
ANSWER = struct.Struct("!II")  # number, class


class JpegTcp:
    """Frames one after the other; what is lost is sent again, and holds up all behind it."""

    def why_not(self) -> str:
        """See Rival."""
        return namespaces.why_not()

    def run(self, run: Run) -> Flow:
        """See Rival."""
        quality = without_parity(run.footage.frames, run.link.nominal)
        with TemporaryDirectory(prefix="gradfec-rivals-") as folder, namespaces.two_ends() as (near, far):
            far.socket.bind((namespaces.FAR, PORT))
            far.socket.listen()
            tuns = (near.tun, far.tun)
            link = run.link.options(Path(folder), LEAD_IN_S)
            with daemon(
                "tunnel", *tuns, "--seed", run.seed, *link, ready=READY, program=TUNNEL, pass_fds=tuns
            ) as carrier:
                threading.Thread(target=serve, args=(far.socket, run), daemon=True).start()
                congestion = connect(near.socket)
                answers = converse(near.socket, quality, run)
                totals = carrier.totals()
        return Flow(answers, totals["up"]["received_bytes"], f"jpeg:{quality}, TCP with {congestion}")


def connect(near: socket.socket) -> str:
    """Connect to the far end; return the name of the congestion control. GradfecError if that fails."""
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    with suppress(OSError):
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
    near.settimeout(CONNECT_S)
    try:
        near.connect((namespaces.FAR, PORT))
    except OSError as error:
        raise GradfecError(f"no TCP connection within {CONNECT_S:g} s: {error}") from None
    return near.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def converse(near: socket.socket, quality: int, run: Run) -> dict[int, Answer]:
    """Send the footage in another thread, and collect the answers until some time after its end."""
    start = time.monotonic()
    frames = run.footage.frames
    clock = Playback(len(frames), FPS, start)

    def film() -> None:
        with suppress(OSError):  # the other thread has closed the connection
            for number in Playback(len(frames), FPS, start):
                data = to_jpeg(frames[number], quality)
                near.sendall(FRAME.pack(number, len(data)) + data)

    threading.Thread(target=film, daemon=True).start()
    answers = {}
    with suppress(OSError):  # the time is over, or the connection is lost: then the other frames have no answer
        while (left := start + run.footage.seconds + GRACE_S - time.monotonic()) > 0:
            near.settimeout(left)
            number, index = ANSWER.unpack(received(near, ANSWER.size))
            answers[number] = Answer(index, 1000 * (time.monotonic() - clock.due(number)))
    return answers


def serve(listener: socket.socket, run: Run) -> None:
    """Answer each frame of one connection until it ends."""
    with suppress(OSError):  # it has ended
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                number, size = FRAME.unpack(received(connection, FRAME.size))
                index = run.classify(from_jpeg(received(connection, size)))
                connection.sendall(ANSWER.pack(number, index))


def received(connection: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes; OSError if the connection ends before."""
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionResetError("the connection has ended")
        parts += part
    return bytes(parts)
