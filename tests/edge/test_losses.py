"""What losses cost: the packets that a report's map shows to be missing, and their share of the importance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_common.codes import fec_named
from gradfec_common.conceal.zero import Zero
from gradfec_common.decode import decode_tensor
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import Report, Result
from gradfec_edge.losses import ImportanceShares

CUT = named_cut("pool1_pool")
GRID = PacketGrid(CUT.shape, 7)  # 512 packets
QUANTISER = QUANTISERS["sqrt2"]  # eleven packets of 98 bytes in a datagram


class Arrived(NamedTuple):
    """A tensor of which some datagrams arrived: the packets that the cloud lacks, its map, and the edge's shares."""

    missing: npt.NDArray[np.intp]
    map: bytes
    importance: ImportanceShares

    def fates(self, missing: int | None = None, untrusted: bytes | None = None) -> dict[str, float]:
        count = len(self.missing) if missing is None else missing
        result = Result(0, "partial", [], 0, count, {})
        map_ = self.map if untrusted is None else untrusted
        return self.importance.fates(result, Report(0, self.importance.plan.sent, 0, 0, map_))


def arrive(policy: str, fec: str, loss: float, seed: int) -> Arrived:
    """Send a tensor over a link with that loss, and let the cloud decode it."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(GRID.count).astype(np.float32) + 1
    coded = QUANTISER.encode(rng.random(CUT.shape, np.float32), GRID)
    room = room_for(QUANTISER.parameter_bytes)
    plan = read_policy(policy, fec_named(fec)).plan(scores, coded.packets.sizes, UNKNOWN_LINK, room)
    bodies = encode_tensor(coded, QUANTISER, plan).bodies(0)
    whole = Reassembly(bodies[0].tobytes(), GRID)
    whole.add(bodies[rng.random(plan.sent) >= loss])
    found = decode_tensor(whole, Zero(CUT, {})).found.places
    missing = np.setdiff1d(np.arange(GRID.count), [*plan.dropped, *found])
    return Arrived(missing, whole.map(), ImportanceShares(plan, scores / scores.sum()))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize(
    ("policy", "fec"),
    [
        ("none", "zfec"),
        ("FEC_25_75", "zfec"),
        ("FEC_50_50", "zfec"),
        ("nested:20,40,60/70", "zfec"),
        ("FEC_25_75", "leopard"),
    ],
)
def test_from_the_map_the_edge_knows_the_importance_of_what_the_cloud_lacks(
    policy: str, fec: str, loss: float, seed: int
) -> None:
    arrived = arrive(policy, fec, loss, seed)
    fates, shares, plan = arrived.fates(), arrived.importance.shares, arrived.importance.plan
    assert sum(fates.values()) == pytest.approx(1)
    assert fates["dropped_by_plan"] == pytest.approx(shares[plan.dropped].sum())
    assert fates.get("missing", 0) == pytest.approx(shares[arrived.missing].sum(), abs=1e-6)
    assert "unknown" not in fates


@pytest.mark.parametrize("untrusted", [b"", b"\xff", bytes(5), bytes(7)], ids=["none", "short", "shorter", "long"])
def test_without_a_map_of_the_right_length_what_is_missing_is_not_known(untrusted: bytes) -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.5, 0)
    fates = arrived.fates(untrusted=untrusted)
    assert fates.keys() == {"dropped_by_plan", "unknown"}
    assert sum(fates.values()) == pytest.approx(1)


def test_a_map_that_contradicts_the_answer_is_not_believed() -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.5, 0)
    assert arrived.fates(missing=len(arrived.missing) + 1).keys() == {"dropped_by_plan", "unknown"}


def test_if_nothing_is_missing_everything_is_delivered_whatever_the_map_says() -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.1, 0)
    fates = arrived.fates(missing=0, untrusted=b"")
    assert fates == {
        "dropped_by_plan": pytest.approx(1 - fates["delivered"]),
        "delivered": pytest.approx(fates["delivered"]),
    }


def test_without_an_answer_only_what_was_dropped_is_known() -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.5, 0)
    assert arrived.importance.fates(None, None).keys() == {"dropped_by_plan", "unknown"}
    result = Result(0, "partial", [], 0, 3, {})
    assert arrived.importance.fates(result, None).keys() == {"dropped_by_plan", "unknown"}
