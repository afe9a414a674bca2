"""H.264 over SRT: ffmpeg codes and sends, another ffmpeg receives and decodes, and the far end classifies.

Neither holds a picture back, so that SRT's latency, the link's delay and the coding are all that it waits for. This
takes some unusual options. One thread each: with several, a coder keeps a picture until the next one comes. And the
length of each picture in the stream, and no parser: otherwise a picture ends only where the next one begins.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

from gradfec_cli.daemons import free_port
from gradfec_host.extras import missing
from gradfec_lab.bench.rivals.footage import FPS, SIDE, Playback
from gradfec_lab.bench.rivals.links import State
from gradfec_lab.bench.rivals.pictures import BLOCK, from_planes, marked, to_planes, unmarked
from gradfec_lab.bench.rivals.rival import GRACE_S, LEAD_IN_S, Answer, Flow, Run, injected, udp_bytes

MOST_KBIT_S = 1000.0  # more improves no picture of this size
SHARE = 0.5  # of the rate that gets through: what SRT sends again needs the rest
SHARE_OF_LATENCY = 0.5  # in which the largest picture must pass the link, or SRT gives it up as too late
LONGEST_BUFFER_S = 0.5
KEY_FRAME_EVERY = 10  # frames: two seconds
CONNECT_MS = 10_000
HEADER = f"YUV4MPEG2 W{SIDE} H{SIDE + BLOCK} F{FPS}:1 Ip A1:1 C420jpeg\n".encode()
PICTURE_BYTES = SIDE * (SIDE + BLOCK) * 3 // 2
PLANES = ("-f", "yuv4mpegpipe", "-i", "pipe:0")
IN = (
    *("-threads", "1", "-fflags", "nobuffer+noparse+nofillin", "-flags", "low_delay"),
    *("-probesize", "32", "-analyzeduration", "0", "-max_error_rate", "1", "-f", "mpegts"),  # it goes on, however bad
)
RAW = ("-an", "-threads", "1", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1")
H264 = (
    *("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-threads", "1", "-pix_fmt", "yuv420p"),
    *("-g", str(KEY_FRAME_EVERY), "-fps_mode", "passthrough", "-flush_packets", "1"),
    *("-muxdelay", "0", "-muxpreload", "0", "-omit_video_pes_length", "0", "-f", "mpegts"),
)


@dataclass(frozen=True)
class H264Srt:
    """Video over SRT with a latency of `latency_ms`: the time in which SRT can send lost datagrams again."""

    latency_ms: int

    def why_not(self) -> str:
        """See Rival."""
        try:
            ffmpeg()
        except ImportError:
            return missing("imageio_ffmpeg")
        except (OSError, RuntimeError) as error:
            return f"imageio-ffmpeg has no ffmpeg that runs here: {error}"
        return ""

    def run(self, run: Run) -> Flow:
        """See Rival."""
        state = run.link.nominal
        rate, buffer = video_rate(state, self.latency_ms)
        far_port = free_port()
        with (
            started(*IN, "-i", srt(far_port, "listener", self.latency_ms), *RAW) as far,
            injected(run, far_port) as (relay, port),
            started(*PLANES, *coding(rate, buffer), srt(port, "caller", self.latency_ms, state)) as near,
        ):
            start = time.monotonic()
            threading.Thread(target=film, args=(near, run, start), daemon=True).start()
            end = threading.Timer(run.footage.seconds + GRACE_S, far.kill)  # which ends what `watch` reads
            end.daemon = True
            end.start()
            answers = watch(far, run, start)
            return Flow(answers, udp_bytes(relay.totals()), f"{rate:.0f} kbit/s of H.264, {self.latency_ms} ms of SRT")


def video_rate(state: State, latency_ms: int) -> tuple[float, float]:
    """Return the bit rate that suits a link, in kbit/s, and the size of the largest picture, in kbit."""
    if state.rate_mbit_s is None:
        return MOST_KBIT_S, LONGEST_BUFFER_S * MOST_KBIT_S
    largest = SHARE_OF_LATENCY * latency_ms * state.rate_mbit_s  # ms x Mbit/s = kbit
    rate = min(SHARE * 1000 * state.rate_mbit_s * (1 - state.loss), MOST_KBIT_S, FPS * largest)
    return rate, min(LONGEST_BUFFER_S * rate, largest)


def coding(rate: float, buffer: float) -> list[str]:
    """Return ffmpeg's options for H.264 of a rate in kbit/s, through a buffer of some kbit."""
    return [*H264[:-2], "-b:v", f"{rate:.0f}k", "-maxrate", f"{rate:.0f}k", "-bufsize", f"{buffer:.0f}k", *H264[-2:]]


def srt(port: int, mode: str, latency_ms: int, state: State | None = None) -> str:
    """Return ffmpeg's address of an end of the connection; the sender keeps to the link's rate."""
    rate = state.rate_mbit_s if state else None
    limit = f"&maxbw={1e6 * rate / 8:.0f}" if rate else ""  # bytes a second
    return f"srt://127.0.0.1:{port}?mode={mode}&latency={1000 * latency_ms}&connect_timeout={CONNECT_MS}{limit}"


@cache
def ffmpeg() -> str:
    """Return the path of ffmpeg; ImportError, OSError or RuntimeError if there is none with SRT and libx264."""
    from imageio_ffmpeg import get_ffmpeg_exe

    program: str = get_ffmpeg_exe()
    for listing, name in (("-protocols", "srt"), ("-encoders", "libx264")):
        done = subprocess.run([program, "-hide_banner", listing], capture_output=True, text=True, check=False)
        if name not in done.stdout.split():
            raise RuntimeError(f"{program} was built without {name}")
    return program


@contextmanager
def started(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ffmpeg for the length of a `with` block."""
    command = [ffmpeg(), "-hide_banner", "-loglevel", "quiet", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def film(near: subprocess.Popen[bytes], run: Run, start: float) -> None:
    """Hand the newest frame to the sender whenever it takes one."""
    assert near.stdin is not None  # noqa: S101
    frames = run.footage.frames
    with suppress(OSError):  # the sender has ended: the connection is lost
        near.stdin.write(HEADER)
        for number in Playback(len(frames), FPS, start):
            near.stdin.write(b"FRAME\n" + to_planes(marked(frames[number], number)))
            near.stdin.flush()


def watch(far: subprocess.Popen[bytes], run: Run, start: float) -> dict[int, Answer]:
    """Classify each decoded picture, once, until the receiver ends; add the link's delay for the answer's way back."""
    assert far.stdout is not None  # noqa: S101
    clock = Playback(len(run.footage.frames), FPS, start)
    answers: dict[int, Answer] = {}
    while len(planes := far.stdout.read(PICTURE_BYTES)) == PICTURE_BYTES:
        picture, number = unmarked(from_planes(planes, SIDE))
        if number is None or number in answers or number >= len(run.footage.frames):
            continue  # damaged, or what the decoder shows in place of a picture that it has not
        index, now = run.classify(picture), time.monotonic()
        back_ms = run.link.state_at(now - start - LEAD_IN_S).delay_ms
        answers[number] = Answer(index, 1000 * (now - clock.due(number)) + back_ms)
    return answers
