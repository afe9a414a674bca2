"""Both halves of a network with a bottleneck compute the same on LiteRT, on TensorFlow, and by the definition."""

import numpy as np
import pytest
from tests.common.bottlenecks import toy
from tests.common.bottlenecks.toy import CUT, NETWORK, halve

from gradfec_cloud.backend.keras_runtime import KerasBackEnd
from gradfec_cloud.backend.litert_runtime import LiteRTBackEnd
from gradfec_common import entropy
from gradfec_common.bottlenecks import with_bottleneck
from gradfec_common.bottlenecks.compact import compact
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.reassembly import Reassembly
from gradfec_edge.coding import Coding
from gradfec_edge.frontend.keras_runtime import KerasFrontEnd
from gradfec_edge.frontend.litert_runtime import LiteRTFrontEnd
from gradfec_host.codec_file import BottleneckWeights

IMAGES = np.random.default_rng(5).integers(0, 256, (3, 32, 32, 3), np.uint8)
BOTTLENECKS = {
    "halve": halve(CUT),
    "halve, for more layers": halve(CUT, "block_add"),
    "halve, at the input": halve(NETWORK.cut("picture")),
    "compact": compact(CUT),
    "compact, of what is below zero": compact(NETWORK.cut("last")),
}


@pytest.fixture(scope="module", params=BOTTLENECKS)
def cut(request):
    bottleneck = BOTTLENECKS[request.param]
    return with_bottleneck(bottleneck, toy.trained(bottleneck), bytes(32))


@pytest.fixture(scope="module")
def weights(cut):
    return BottleneckWeights(cut.network, toy.Drawn(NETWORK))


def received(latents, cut, there, step=0.125):
    """What the back-end gets of latents (N, H, W, C)."""
    grid, conceal = PacketGrid(cut.shape, cut.shape[0] // 2), make_concealment("mask", cut, {})
    return np.stack([conceal(one.copy(), there, grid, step) for one in latents])


def test_both_runtimes_make_the_same_latents_and_the_same_answer_of_them(cut, weights):
    ours, theirs = LiteRTFrontEnd(cut, weights), KerasFrontEnd(cut, weights)
    latents = np.stack([ours(image).chi for image in IMAGES])
    assert (latents.shape, latents.dtype) == ((3, *cut.shape), np.float32)
    assert latents.std() > 1e-3
    np.testing.assert_allclose(latents, theirs(IMAGES).chi, rtol=1e-3, atol=1e-4 * np.abs(latents).max())
    rng = np.random.default_rng(1)
    for share in (1.0, 0.5, 0.0):
        chi = received(latents, cut, rng.random(2 * cut.shape[2]) < share)
        one, other = LiteRTBackEnd(cut, weights)(chi), KerasBackEnd(cut, weights)(chi)
        assert one.shape == (3, 4) and 0 < one.max() < 0.999
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_is_missing_makes_a_difference_to_the_back_end(cut, weights):
    back_end = LiteRTBackEnd(cut, weights)
    latents = np.stack([LiteRTFrontEnd(cut, weights)(image).chi for image in IMAGES])
    every, none = (back_end(received(latents, cut, np.full(2 * cut.shape[2], there))) for there in (True, False))
    assert np.abs(every - none).max() > 1e-4
    np.testing.assert_allclose(none, none[:1].repeat(3, axis=0), atol=1e-6)


def test_a_back_end_refuses_latents_without_a_mask(cut, weights):
    with pytest.raises(ValueError, match="chi is"):
        LiteRTBackEnd(cut, weights)(np.zeros((1, *cut.shape), np.float32))


def test_halve_computes_what_its_definition_says():
    bottleneck = BOTTLENECKS["halve"]
    arrays = toy.trained(bottleneck)
    cut = with_bottleneck(bottleneck, arrays, bytes(32))
    base, weights = toy.Drawn(NETWORK), BottleneckWeights(cut.network, toy.Drawn(NETWORK))
    chi = LiteRTFrontEnd(CUT, base)(IMAGES[0]).chi
    kernel, bias = arrays["encoder"]
    squares = chi.reshape(8, 2, 8, 2, 8)  # (16, 16, 8) -> 8 x 8 squares of 2 x 2
    expected = np.einsum("iajbc,abcf->ijf", squares, kernel) + bias
    latents = LiteRTFrontEnd(cut, weights)(IMAGES[0]).chi
    np.testing.assert_allclose(latents, expected, atol=1e-4)
    filled = received(latents[np.newaxis], cut, np.ones(4, bool))[0]
    kernel, bias = arrays["decoder"]
    restored = np.einsum("ijc,abfc->iajbf", filled, kernel).reshape(16, 16, 8) + bias
    ours = LiteRTBackEnd(cut, weights)(filled[np.newaxis])
    np.testing.assert_allclose(ours, LiteRTBackEnd(CUT, base)(restored[np.newaxis].astype(np.float32)), atol=1e-5)


@pytest.mark.parametrize("policy", ["none", "FEC_20_80", "nested:1,2/4"])
def test_a_picture_goes_through_both_halves_and_all_between_and_the_answer_is_that_of_rounded_latents(
    cut, weights, policy
):
    grid = PacketGrid(cut.shape, cut.shape[0] // 2)
    coding = Coding(cut, grid, Laplace(0.05), read_policy(policy))
    latents = LiteRTFrontEnd(cut, weights)(IMAGES[0]).chi
    encoded = coding.encode(latents, np.abs(grid.split(latents)).sum(axis=1), None, UNKNOWN_LINK, map)
    bodies = encoded.bodies(0)
    arrived = Reassembly(bodies[0].tobytes(), grid)
    assert arrived.add(bodies) == {}
    decoded = decode_tensor(arrived, make_concealment("mask", cut, {}))
    there = ~np.isin(np.arange(grid.count), encoded.plan.dropped)
    rounded = np.clip(np.rint(latents / np.float32(0.05)), -entropy.LARGEST[-1], entropy.LARGEST[-1]) * np.float32(0.05)
    np.testing.assert_array_equal(decoded.tensor, received(rounded[np.newaxis], cut, there, np.float32(0.05))[0])
    assert decoded.missing == 0
    assert np.isfinite(LiteRTBackEnd(cut, weights)(decoded.tensor[np.newaxis])).all()
