"""Decoding in the cloud: what the back-end gets of a tensor, with gaps filled by any concealment of the registry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from tests.cloud.small import GRID, SPLIT, ZERO, Deliveries, decided, encoded, infer, locally, sure_of
from tests.common.learned import learned_of

from gradfec_cloud.cli import main
from gradfec_cloud.decoding import Decoder
from gradfec_common.conceal import CONCEALMENTS, Concealment, Learned, make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
POLICIES = ["none", "FEC_50_50", "nested:20,60,100/120"]


class Nines:
    """A toy: a missing packet becomes nines."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        self.cut = cut

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        packets = grid.split(tensor)
        packets[~there] = 9
        return grid.join(packets)


@pytest.fixture
def nines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Concealment]:
    monkeypatch.setitem(CONCEALMENTS, "nines", Nines)
    yield make_concealment("nines", SPLIT, {})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("most", [1, 2, None])
@pytest.mark.parametrize("lost", [0, 10, 40])
def test_stripes_that_share_threads_decode_as_one_after_the_other(policy: str, most: int, lost: int) -> None:
    tensor = decided(7, lost, tensor=encoded(7, policy, "sqrt2", most))
    decoder = Decoder({SPLIT: ZERO})
    found, expected = decoder.decode(SPLIT, tensor.arrived), decode_tensor(tensor.arrived, ZERO)
    decoder.close()
    np.testing.assert_array_equal(found.tensor, expected.tensor)
    assert (found.recovered, found.missing) == (expected.recovered, expected.missing)
    np.testing.assert_array_equal(np.sort(found.found.places), np.sort(expected.found.places))


def test_packets_that_were_dropped_or_lost_are_concealed_and_no_others(nines: Concealment) -> None:
    tensor = decided(7, lost=200)  # of 256 datagrams: nothing is recovered
    decoder = Decoder({SPLIT: nines})
    found = decoder.decode(SPLIT, tensor.arrived)
    decoder.close()
    there = np.isin(np.arange(GRID.count), found.found.places)
    packets = GRID.split(found.tensor)
    assert (packets[~there] == 9).all() and (packets[there] == 7).all()
    assert found.missing == 128 - there.sum()


def test_a_concealment_of_the_registry_reaches_the_back_end(nines: Concealment) -> None:
    class Keeper:
        def warm_up(self) -> None:
            pass

        def __call__(self, chi: Floats) -> Floats:
            kept.append(chi)
            return sure_of(chi)

    kept: list[Floats] = []
    delivered = Deliveries()
    inference = infer(locally(Keeper, conceal=nines), delivered)
    inference.submit(decided(7))
    assert delivered.next().error is None
    inference.close()
    assert (GRID.split(kept[0][0])[128:] == 9).all()  # the plan drops the second half
    assert (GRID.split(kept[0][0])[:128] == 7).all()


def test_the_user_can_choose_a_concealment_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    def toy(cut: Cut, learned: Learned) -> Concealment:
        raise UsageError(f"a toy for {cut.name}")

    monkeypatch.setitem(CONCEALMENTS, "toy", toy)
    result = CliRunner().invoke(main, ["--listen", "127.0.0.1:9", "--split", "pool1_pool", "--fill", "toy"])
    assert (result.exit_code, result.output[20:]) == (2, "error: a toy for pool1_pool\n")


@pytest.mark.parametrize("name", [name for name in CONCEALMENTS if name != "mask"])  # it needs another cut
def test_no_concealment_changes_a_decoded_packet(name: str) -> None:
    tensor = decided(7, lost=200)
    decoder = Decoder({SPLIT: make_concealment(name, SPLIT, learned_of(SPLIT.shape[2]))})
    found = decoder.decode(SPLIT, tensor.arrived)
    decoder.close()
    assert (GRID.split(found.tensor)[found.found.places] == 7).all()
    assert np.isfinite(found.tensor).all()
