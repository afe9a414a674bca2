"""A made-up daemon: the records of a cloud or an edge, from a seeded generator."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gradfec_common.cells import Cell
from gradfec_web.view import Edge, Frame, Picture, Status, Workers

CHANNELS, GROUPS = 256, 8
DATAGRAMS = CHANNELS * GROUPS // 8
ANSWERS = {
    "Egyptian_cat": [("Egyptian_cat", 0.62), ("tabby", 0.21), ("tiger_cat", 0.11)],
    "espresso": [("espresso", 0.87), ("coffee_mug", 0.06), ("cup", 0.04)],
    "space_shuttle": [("space_shuttle", 0.93), ("projectile", 0.03), ("missile", 0.02)],
}
REST = [("toilet_tissue", 0.01), ("nematode", 0.005)]


def base64_of(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


def importance(rng: np.random.Generator, channels: int = CHANNELS, groups: int = GROUPS) -> np.ndarray:
    """In which 256th of all packets each is by importance: some channels matter more, and the middle rows."""
    rows = np.exp(-(((np.arange(groups) - groups * 0.55) / (0.3 * groups)) ** 2))
    values = rng.gamma(0.6, 1.0, (channels, 1)) * (0.3 + rows) * rng.uniform(0.7, 1.3, (channels, groups))
    ranks = values.ravel().argsort().argsort()
    return (256 * ranks // values.size).reshape(channels, groups)


def picture_of_noise(rng: np.random.Generator) -> str:
    """A JPEG that is no photograph, but has light and dark in it."""
    small = rng.integers(30, 220, (7, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()


class Camera:
    """One edge's frames under FEC_50_50, eight packets in a datagram, over a link that loses in bursts."""

    def __init__(self, name: str, session: int, loss: float = 0.2, seed: int = 0, role: str = "cloud") -> None:
        self.name, self.session, self.loss, self.role = name, session, loss, role
        self.rng = np.random.default_rng(seed)
        self.number = 0
        self.photographs: Sequence[str] = ()
        self.sketches = False  # whether the cloud is told what the edge has dropped
        self.protect = "FEC_50_50"  # only the edge's page is told
        self.expected: float | None = None  # likewise, and only under `auto`
        self.ratio = 1.0  # of a photograph's width to its height
        self.boxes: list[tuple[str, float, tuple[float, float, float, float]]] | None = None  # of a detector

    def edge(self, now: float, connected: bool = True, said: str = "") -> Edge:
        settings = {"protect": self.protect, "fps": None} if self.role == "edge" else {}
        address = f"192.0.2.{self.session}:41{self.session:03}"
        return Edge(self.name, self.session, address, connected, now - 75, said, settings=settings)

    def frame(self, at: float) -> tuple[Frame, Picture]:
        self.number += 1
        rng, total = self.rng, CHANNELS * GROUPS
        matters = importance(rng)
        kept = np.zeros(total, bool)
        kept[np.argsort(matters.ravel())[total // 2 :]] = True
        loss = float(np.clip(rng.normal(self.loss, 0.07), 0.0, 0.9))
        lost = rng.random(total) < loss
        gone = round(DATAGRAMS * loss)
        cells = np.where(kept, np.where(lost, Cell.RECOVERED, Cell.PROTECTED), Cell.DROPPED)
        failed = kept & lost & (np.arange(total) % 16 < max(0, round((loss - 0.28) * 60)))
        cells[failed] = Cell.UNRECOVERED
        if self.role == "cloud" and not self.sketches:
            cells[(cells == Cell.DROPPED) | (cells == Cell.UNRECOVERED)] = Cell.ABSENT
        answer = list(ANSWERS)[self.number // 20 % len(ANSWERS)]
        stages = {"decode": rng.uniform(2, 4), "fill": 1.0, "back_end": rng.uniform(45, 60)}
        if self.role == "edge":
            stages = {
                "preprocess": 1.1,
                "front_end": rng.uniform(8, 12),
                "importance": 2.0,
                "encode": 12.0,
                "send": 40.0,
            } | stages
        frame = Frame(
            edge=self.name,
            session=self.session,
            number=self.number,
            at=at,
            outcome="partial" if failed.any() else "complete",
            answer=[*ANSWERS[answer], *REST] if self.boxes is None else [box[:2] for box in self.boxes],
            packets={
                "total": total,
                "dropped_by_plan": total // 2,
                "recovered": int((cells == Cell.RECOVERED).sum()),
                "missing": int(failed.sum()),
            },
            datagrams={"sent": DATAGRAMS, "parity": DATAGRAMS // 2, "received": DATAGRAMS - gone, "lost": gone},
            bursts=max(1, round(gone / rng.uniform(2.5, 4))),
            latency_ms=sum(stages.values()) + rng.uniform(20, 60),
            stages_ms=stages,
            source="photos/cat.jpg" if self.role == "edge" else "",
            bytes=1060 * DATAGRAMS,
            expected=self.expected,
        )
        photograph = self.photographs[self.number // 20 % len(self.photographs)] if self.photographs else ""
        known = base64_of(matters) if self.role == "edge" or self.sketches else ""
        return frame, Picture(
            self.name,
            self.session,
            self.number,
            CHANNELS,
            GROUPS,
            base64_of(cells),
            known,
            photograph,
            frame.answer,
            self.ratio,
            boxes=self.boxes,
        )


def status(
    role: str,
    at: float,
    edges: Sequence[Edge],
    *,
    insecure: bool = False,
    workers: Workers | None = None,
    not_ready: str = "",
) -> Status:
    return Status(
        role=role,
        at=at,
        title="127.0.0.1:9000" if role == "cloud" else "/dev/video0",
        settings={"split": "conv2_block1_add", "deadline_ms": 500, "results": None, "codes": ["zfec", "leopard"]},
        insecure=insecure,
        edges=list(edges),
        counters={"datagrams_received": {"collected": 40960, "forged": 0}, "tensors": {"opened": 20, "complete": 18}},
        workers=workers,
        not_ready=not_ready,
    )
