"""How the page puts things: numbers as people read them, and a line for each word that a visitor may not know."""

from __future__ import annotations

from collections.abc import Sequence

from gradfec_common.keys import INSECURE_WARNING
from gradfec_web.view import Cell, Edge, Status

Lines = Sequence[tuple[str, float]]  # label and score

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
NO_IMPORTANCE = (
    "How much each packet of this frame matters, only the edge knows, and it has not come through: the edge's own live "
    "page shows it."
)
INSECURE = f"This runs with {INSECURE_WARNING}."

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
REASONS = {  # why a session has ended, as the daemons call it
    "idle": "nothing has been heard from it",
    "bye": "it said goodbye",
    "leaving": "the cloud was leaving",
    "key removed": "its key was taken away",
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


def answer(lines: Lines) -> str:
    """Write the first of some answers."""
    return label(lines[0][0]) if lines else "no answer"


def sure_answer(lines: Lines) -> str:
    """Write the first of some answers, and how sure the network is of it."""
    return f"{answer(lines)}, {percent(lines[0][1], 0)}" if lines else answer(lines)


def label(name: str) -> str:
    """Write an ImageNet class as words."""
    return name.replace("_", " ")


def state(edge: Edge, now: float, role: str = "cloud") -> str:
    """Say whether an edge is there, since when, and why not."""
    absent = "not connected" if role == "edge" else "gone"
    why = REASONS.get(edge.said, edge.said)
    return f"{'connected' if edge.connected else absent} for {span(now - edge.since)}" + (f": {why}" if why else "")


def title(status: Status | None) -> str:
    """Name the page, for the browser's tab."""
    return f"{status.title} – gradfec {status.role}" if status else "gradfec"


def cloud_for_edges(listening: str) -> str:
    """Return what to give an edge as --cloud when the cloud listens there: HOST where that names no machine."""
    host, _, port = listening.rpartition(":")
    return f"HOST:{port}" if host in {"", "0.0.0.0", "[::]", "*"} else listening
