"""How the page puts things: numbers as people read them, and a line for each word that a visitor may not know."""

from __future__ import annotations

from gradfec_common.keys import INSECURE_WARNING
from gradfec_web.view import Cell, Edge, Frame, Status

NONE = "–"  # for a number that is not known

INTRODUCTION = {
    "cloud": "Cameras at the edge run the first layers of a neural network and send what comes out of them here, as "
    "packets, over links that lose some. This is what arrived, and what the network answered all the same.",
    "edge": "This camera box, the edge, runs the first layers of a neural network and sends what comes out of them to "
    "a server, the cloud, as packets, over a link that loses some. This is what arrived, and what the cloud answered.",
}
WAITING = "Waiting for the daemon's first word."
NO_EDGE = "No edge has come yet. On a machine with a camera, start one:"
NO_EDGE_KEY = (
    "It needs the key that this cloud has: gradfec keygen --show prints it here, gradfec keygen --paste takes it there."
)
NO_FRAME = {
    "cloud": "This edge is connected, but no frame of it has been answered yet. It sends one when its camera has one.",
    "edge": "No frame has been answered yet. One is sent when the camera has one and the cloud is there.",
}
NO_IMPORTANCE = "Only the edge knows how much each packet matters, and it is not sent: its own live page shows it."
INSECURE = f"No key. {INSECURE_WARNING[0].upper()}{INSECURE_WARNING[1:]}"

PACKETS = (
    "What the first layers made of the frame, a tensor: each square is a channel, one of their many views of the "
    "frame; each strip in it is a packet, which holds some rows of that view."
)
PARITY = "Parity: packets sent on top, from which any lost ones that they protect can be computed back."
IMPORTANCE = (
    "How much the answer would suffer without each packet, as the edge estimates it: dark matters least, and is "
    "dropped first; bright matters most."
)
BANDS = (
    "A packet holds rows across the whole picture, so the picture matters in bands: the brighter a band, the more "
    "the answer hangs on it."
)
LATENCY = {"cloud": "from a frame's first packet to its answer", "edge": "from the camera to the answer"}
CONFIDENCE = "The percentages are the network's own confidence, not a measured chance."

FATES: dict[Cell, tuple[str, str]] = {
    Cell.PROTECTED: ("protected", "arrived; parity stood by for it"),
    Cell.SENT: ("sent bare", "arrived; it had no parity"),
    Cell.RECOVERED: ("recovered", "lost, and computed back from parity"),
    Cell.UNRECOVERED: ("unrecovered", "lost; its parity was not enough"),
    Cell.LOST: ("lost", "lost; it had no parity"),
    Cell.DROPPED: ("dropped by plan", "never sent: it matters least, and made room for parity"),
    Cell.ABSENT: ("absent", "dropped by plan or lost: only the edge knows which"),
}
OUTCOMES = {
    "complete": "complete: all that was sent as data is there",
    "partial": "partial: some of what was sent is missing",
    "timeout": "timeout: no answer came in time",
}


def number(value: float | None, digits: int = 0) -> str:
    """Write a number, or NONE."""
    return NONE if value is None else f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def with_unit(value: float | None, unit: str, digits: int = 0) -> str:
    """Write a number with its unit, or NONE."""
    return NONE if value is None else f"{number(value, digits)}\N{NO-BREAK SPACE}{unit}"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as a percentage, or NONE."""
    return with_unit(None if share is None else 100 * share, "%", digits)


def span(seconds: float) -> str:
    """Write a time span in its largest unit, whole."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}\N{NO-BREAK SPACE}{unit}"
    return f"{max(int(seconds), 0)}\N{NO-BREAK SPACE}s"


def answer(frame: Frame) -> str:
    """Write a frame's first answer."""
    return label(frame.top5[0][1]) if frame.top5 else "no answer"


def label(name: str) -> str:
    """Write an ImageNet class as words."""
    return name.replace("_", " ")


def sure_answer(frame: Frame) -> str:
    """Write a frame's first answer, and how sure the network is of it."""
    return f"{answer(frame)}, {percent(frame.top5[0][2], 0)}" if frame.top5 else answer(frame)


def state(edge: Edge, now: float) -> str:
    """Say whether an edge is there, since when, and why not."""
    since = span(now - edge.since)
    if edge.connected:
        return f"connected for {since}" + (f": {edge.said}" if edge.said else "")
    return f"gone for {since}" + (f": {edge.said}" if edge.said else "")


def title(status: Status | None) -> str:
    """Name the page, for the browser's tab."""
    return f"{status.title} – gradfec {status.role}" if status else "gradfec"


def cloud_for_edges(listening: str) -> str:
    """Return what to give an edge as --cloud when the cloud listens there: HOST where that names no machine."""
    host, _, port = listening.rpartition(":")
    return f"HOST:{port}" if host in {"", "0.0.0.0", "[::]", "*"} else listening
