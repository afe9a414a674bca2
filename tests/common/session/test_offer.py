"""What a cloud has on offer, and how it says so to an edge that wants something else."""

from __future__ import annotations

import dataclasses

import pytest
from tests.common.networks.toy import TOY

from gradfec_common.ciphers import Cipher
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.session.offer import Form, Offer
from gradfec_common.wire import MAX_TEXT_BYTES, Hello, Refuse, message_body, read_message

POOL, ADD, OUT = (RESNET50.cut(name) for name in ("pool1_pool", "conv2_block1_add", "conv3_block4_out"))
MIX = TOY.cut("mix")


def hello(of: Cut, rows: int = 2, **changes: object) -> Hello:
    return dataclasses.replace(Hello(Cipher.AES_256_GCM, of.network.digest, of.id, rows, "edge"), **changes)


def refusal(offer: Offer, wanted: Hello) -> tuple[str, str]:
    said = offer.accept(wanted)
    assert isinstance(said, Refuse)
    assert read_message(message_body(said)) == said
    return said.reason, said.detail


def test_each_edge_may_want_any_cut_of_any_network_that_is_served() -> None:
    offer = Offer([ADD, MIX, OUT])
    for cut, rows in ((ADD, 7), (MIX, 2), (OUT, 14)):
        accepted = offer.accept(hello(cut, rows))
        assert not isinstance(accepted, Refuse)
        assert [*accepted] == [0]
        assert accepted[0].cut is cut
        assert (accepted[0].grid.shape, accepted[0].grid.rows) == (cut.shape, rows)


def test_of_further_forms_those_are_taken_that_are_served() -> None:
    also = [[POOL.network.digest, POOL.id, 7], [bytes(16), 1, 7], [MIX.network.digest, MIX.id, 2]]
    accepted = Offer([ADD, MIX]).accept(hello(ADD, 7, also=also))
    assert not isinstance(accepted, Refuse)
    assert {number: form.cut for number, form in accepted.items()} == {0: ADD, 3: MIX}
    assert accepted[3] == Form(MIX, PacketGrid(MIX.shape, 2))


def test_a_further_form_with_impossible_rows_is_left_out() -> None:
    accepted = Offer([ADD]).accept(hello(ADD, 7, also=[[ADD.network.digest, ADD.id, 5]]))
    assert not isinstance(accepted, Refuse)
    assert [*accepted] == [0]


@pytest.mark.parametrize(
    ("served", "there"),
    [
        ([ADD], "resnet50 (2a137137) at conv2_block1_add"),
        ([ADD, OUT], "resnet50 (2a137137) at conv2_block1_add, conv3_block4_out"),
        (
            [ADD, MIX, OUT],
            f"resnet50 (2a137137) at conv2_block1_add, conv3_block4_out and toy ({TOY.digest.hex()[:8]}) ",
        ),
        (RESNET50.cuts, "resnet50 (2a137137) at input_layer, conv1_pad, conv1_conv, conv1_bn, 36 more"),
    ],
)
def test_an_unknown_model_is_refused_with_those_that_there_are(served: list[Cut], there: str) -> None:
    reason, detail = refusal(Offer(served), hello(ADD, model=bytes(range(16))))
    assert reason == "model"
    assert detail.startswith(f"this cloud has {there}")
    assert detail.endswith("; the edge asked for model 00010203")


@pytest.mark.parametrize(
    ("served", "asked", "detail"),
    [
        ([ADD], POOL.id, "at conv2_block1_add, not at pool1_pool: use --split conv2_block1_add on the edge"),
        (
            [ADD, OUT],
            POOL.id,
            "conv2_block1_add, conv3_block4_out, not at pool1_pool: use --split with one of these on",
        ),
        ([ADD], 8, "at conv2_block1_add, not at cut 8: use --split conv2_block1_add on the edge"),
        ([ADD, MIX], 65_535, "at conv2_block1_add, not at cut 65535: use --split conv2_block1_add on the edge"),
    ],
)
def test_a_cut_that_is_not_served_is_refused_with_those_that_are(served: list[Cut], asked: int, detail: str) -> None:
    reason, said = refusal(Offer(served), hello(ADD, cut=asked))
    assert reason == "cut"
    assert said.startswith("this cloud has resnet50 at")
    assert detail in said


def test_a_cut_of_one_network_is_none_of_another() -> None:
    assert refusal(Offer([POOL, MIX]), hello(POOL, model=TOY.digest))[0] == "cut"


@pytest.mark.parametrize("rows", [0, 3, 65_535])
def test_rows_that_do_not_divide_the_height_are_refused(rows: int) -> None:
    reason, detail = refusal(Offer([MIX]), hello(MIX, rows))
    assert (reason, f"{rows} rows" in detail) == ("rows", True)


def test_an_unknown_cipher_is_refused() -> None:
    assert refusal(Offer([MIX]), hello(MIX, cipher=9)) == ("cipher", "this cloud has no cipher 9: update it")


def test_a_refusal_fits_its_message_whatever_the_layers_are_called() -> None:
    layers = tuple(
        dataclasses.replace(
            layer, name="ü" * 100 + layer.name, inbound=tuple("ü" * 100 + name for name in layer.inbound)
        )
        for layer in TOY.layers
    )
    network = dataclasses.replace(TOY, layers=layers)
    for wanted in (hello(ADD), hello(network.cuts[0])):
        _, detail = refusal(Offer([network.cuts[1]]), wanted)
        assert len(detail.encode()) <= MAX_TEXT_BYTES
        assert detail.endswith("...")
