"""What losses are worth: the packets that a report's map tells to be missing, and their share of the importance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from gradfec_common.codes import fec_named
from gradfec_common.networks import named_cut
from gradfec_common.plan import parse_scheme
from gradfec_common.reassembly import Reassembly, decode_tensor
from gradfec_common.transmit import encode_tensor, packet_grid
from gradfec_common.wire import Report, Result
from gradfec_edge.losses import Weights

SPLIT = named_cut("pool1_pool")
GRID = packet_grid(SPLIT, 14)  # 256 packets


class Arrived(NamedTuple):
    """A tensor of which some symbols have arrived: what the cloud finds missing, its map, and the edge's weights."""

    missing: npt.NDArray[np.intp]
    map: bytes
    weights: Weights

    def fates(self, missing: int | None = None, untrusted: bytes | None = None) -> dict[str, float]:
        count = len(self.missing) if missing is None else missing
        result = Result(0, "partial", [], 0, count, {})
        return self.weights.fates(result, Report(0, 256, 0, 0, self.map if untrusted is None else untrusted))


def arrive(scheme: str, fec: str, loss: float, seed: int) -> Arrived:
    """Send a tensor over a link that loses so much, and let the cloud decode it."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(GRID.count).astype(np.float32) + 1
    plan = parse_scheme(scheme, fec_named(fec)).plan(scores)
    encoded = encode_tensor(rng.random(SPLIT.shape, np.float32), plan, GRID, SPLIT)
    came = rng.random(plan.sent) >= loss
    whole = Reassembly(encoded.headers[0], GRID)
    whole.add(encoded.headers[came], encoded.symbols[came])
    found = decode_tensor(whole).found.places
    missing = np.setdiff1d(np.arange(GRID.count), [*plan.dropped, *found])
    return Arrived(missing, whole.map(), Weights(plan, encoded.headers, scores / scores.sum()))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize(
    ("scheme", "fec"), [("none", "zfec"), ("FEC_25_75", "zfec"), ("FEC_50_50", "zfec"), ("FEC_25_75", "leopard")]
)
def test_the_edge_weighs_by_the_map_what_the_cloud_lacks(scheme: str, fec: str, loss: float, seed: int) -> None:
    arrived = arrive(scheme, fec, loss, seed)
    fates, shares, plan = arrived.fates(), arrived.weights.shares, arrived.weights.plan
    assert sum(fates.values()) == pytest.approx(1)
    assert fates["dropped_by_plan"] == pytest.approx(shares[plan.dropped].sum())
    assert fates.get("missing", 0) == pytest.approx(shares[arrived.missing].sum(), abs=1e-6)
    assert "unknown" not in fates


@pytest.mark.parametrize("untrusted", [b"", b"\xff", bytes(31), bytes(33)], ids=["none", "short", "shorter", "long"])
def test_without_a_map_that_fits_what_is_missing_is_not_known(untrusted: bytes) -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.5, 0)
    fates = arrived.fates(untrusted=untrusted)
    assert fates.keys() == {"dropped_by_plan", "unknown"}
    assert sum(fates.values()) == pytest.approx(1)


def test_a_map_that_contradicts_the_answer_is_not_believed() -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.5, 0)
    assert arrived.fates(missing=len(arrived.missing) + 1).keys() == {"dropped_by_plan", "unknown"}


def test_where_nothing_is_missing_all_is_delivered_whatever_the_map() -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.1, 0)
    fates = arrived.fates(missing=0, untrusted=b"")
    assert fates == {
        "dropped_by_plan": pytest.approx(1 - fates["delivered"]),
        "delivered": pytest.approx(fates["delivered"]),
    }


def test_without_an_answer_only_what_was_dropped_is_known() -> None:
    arrived = arrive("FEC_25_75", "zfec", 0.5, 0)
    assert arrived.weights.fates(None, None).keys() == {"dropped_by_plan", "unknown"}
    result = Result(0, "partial", [], 0, 3, {})
    assert arrived.weights.fates(result, None).keys() == {"dropped_by_plan", "unknown"}
