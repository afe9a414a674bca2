"""`gradfec sweep quantise`: few levels, of which 8 bits are the product's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gradfec_cli.cli import main
from gradfec_common.quantise import dequantise, quantise
from gradfec_lab.sweep.quantise import coarse

from .toys import install, write_images


@given(st.integers(0, 2**32 - 1), st.floats(-30, 30))
def test_eight_bits_are_the_products_quantiser(seed: int, exponent: float) -> None:
    chi = (np.random.default_rng(seed).normal(size=(7, 4, 6)) * 10**exponent).astype(np.float32)
    np.testing.assert_array_equal(coarse(chi, 8), dequantise(*quantise(chi)))


@pytest.mark.parametrize("bits", range(1, 9))
def test_b_bits_are_2_to_the_b_levels_with_half_a_step_of_error(bits: int) -> None:
    chi = np.random.default_rng(bits).uniform(-3, 5, (56, 56, 4)).astype(np.float32)
    values = coarse(chi, bits)
    assert len(np.unique(values)) == 2**bits
    step = (chi.max() - chi.min()) / (2**bits - 1)
    assert np.abs(values - chi).max() <= step / 2 * 1.001
    assert (values.min(), values.max()) == (chi.min(), chi.max())


def test_a_constant_tensor_comes_back() -> None:
    np.testing.assert_array_equal(coarse(np.full((2, 2, 2), 3.5, np.float32), 1), np.full((2, 2, 2), 3.5))


def test_json_says_agreement_by_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    write_images(tmp_path / "images", 3)
    arguments = ["sweep", "quantise", "--images", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--bits", "8,2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["agreement"].keys() == found["ci"].keys() == {"2", "8"}
    assert found["agreement"]["8"] == 1
    assert (tmp_path / "out" / "quantise.png").read_bytes().startswith(b"\x89PNG")
    refused = CliRunner().invoke(main, [*arguments, "--bits", "9"])
    assert refused.stderr == "error: --bits: '9' is not a number of bits from 1 to 8\n"
