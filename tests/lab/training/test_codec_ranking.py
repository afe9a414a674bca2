"""The ranking of a bottleneck's packets is fitted to the oracle, packet by packet."""

from __future__ import annotations

import numpy as np
import pytest

from gradfec_edge.importance.latents import OFFSET, POWER
from gradfec_lab.training.codec_ranking import fitted

IMAGES, PACKETS = 400, 6


def test_a_power_law_is_found_again() -> None:
    rng = np.random.default_rng(1)
    power = np.array([0.2, 0.5, 1, 1, 1.5, 0])
    energies = rng.normal(0, 1, (IMAGES, PACKETS))
    importances = np.exp(power * energies)
    importances[:, -1] = 100  # so that the others' shares are nearly in proportion to their importances
    found = fitted(energies.astype(np.float32), importances.astype(np.float32))
    assert found[POWER] == pytest.approx(power, abs=0.1)
    assert found[OFFSET] - found[OFFSET][0] == pytest.approx([0] * 5 + [np.log(100)], abs=0.2)


def test_packets_that_matter_everywhere_come_first() -> None:
    energies = np.zeros((IMAGES, 3), np.float32)
    found = fitted(energies, np.tile(np.array([1, 4, 2], np.float32), (IMAGES, 1)))
    assert np.argsort(-found[OFFSET]).tolist() == [1, 2, 0]
    assert np.isfinite(found[POWER]).all()


def test_images_without_any_importance_do_no_harm() -> None:
    rng = np.random.default_rng(2)
    importances = rng.random((IMAGES, PACKETS)).astype(np.float32)
    importances[::2] = 0
    found = fitted(rng.normal(size=(IMAGES, PACKETS)).astype(np.float32), importances)
    assert all(np.isfinite(array).all() for array in found.values())
