"""The figures are PNGs of every line and interval, and the same rows give the same bytes."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pytest

from gradfec_lab.sweep.figures import (
    equal_bytes_figure,
    importance_figure,
    policy_colours,
    protection_figure,
    quantise_figure,
    rate_figure,
)

LEVEL = {"agreement": 0.5, "agreement_low": 0.4, "agreement_high": 0.6}


def importance_rows(*estimators: str) -> list[dict]:
    every = product(("least", "most"), estimators, ("zero", "mean"), (0.2, 0.8))
    return [{"order": o, "estimator": e, "fill": f, "drop": d, **LEVEL} for o, e, f, d in every]


def protection_rows(*policies: str) -> list[dict]:
    every = product(("zfec", "leopard"), ("iid", "8"), policies, (0.1, 1.0))
    same = {"codec": "uniform8", "packets": "1", "importance": "proxy", "fill": "zero", **LEVEL}
    return [{**same, "code": c, "burst": b, "policy": p, "loss": x} for c, b, p, x in every]


def size(png: bytes) -> tuple[int, ...]:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.shape


def test_a_figure_has_a_panel_for_each_order_and_fill() -> None:
    one = [row for row in importance_rows("gradcam") if (row["order"], row["fill"]) == ("least", "zero")]
    high, wide, _ = size(importance_figure(importance_rows("gradcam", "proxy", "a-new-one")))
    low, narrow, _ = size(importance_figure(one))
    assert wide == pytest.approx(2 * narrow, abs=2)
    assert high > 1.5 * low


def test_a_figure_has_a_panel_for_each_code_and_burst() -> None:
    high, wide, _ = size(protection_figure(protection_rows("none", "FEC_50_50")))
    assert (high, wide) == pytest.approx((150 * (2 * 3.6 + 0.6), 150 * 2 * 4.6), abs=2)


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = importance_rows("gradcam", "proxy")
    assert importance_figure(rows) == importance_figure(rows)
    moved = [{**row, "agreement": 0.55} for row in rows]
    assert importance_figure(moved) != importance_figure(rows)


def test_quantisers_are_drawn_with_top1_where_there_are_labels() -> None:
    rows = [{"quantiser": f"{kind}{bits}", "bits": bits, **LEVEL} for kind in ("uniform", "sqrt") for bits in (4, 6)]
    labelled = [{**row, "top1": 0.3, "top1_low": 0.2, "top1_high": 0.4} for row in rows]
    assert quantise_figure(rows) != quantise_figure(labelled)
    assert quantise_figure(rows) != quantise_figure(rows[:2])


def test_each_policy_has_a_colour_of_its_own() -> None:
    policies = ["none", "FEC_10_90", "FEC_20_80", "FEC_30_70", "FEC_40_60", "FEC_50_50"]
    assert len(set(policy_colours(policies).values())) == 6
    assert [*policy_colours(["FEC_50_50"])] == ["none", "FEC_50_50"]


def test_a_figure_of_rates_has_a_panel_for_each_measure() -> None:
    rows = [{"codec": codec, "setting": "x", "bytes": of, **LEVEL} for codec in ("a", "b") for of in (900.0, 9e4)]
    labelled = [{**row, "top1": 0.5, "top1_low": 0.4, "top1_high": 0.6} for row in rows]
    assert size(rate_figure(labelled))[1] == pytest.approx(2 * size(rate_figure(rows))[1], abs=2)


def test_a_figure_of_equal_bytes_has_a_panel_for_each_number_of_bytes_and_link() -> None:
    every = product(("iid", "8"), (("webp", 6000), ("webp", 12_000), ("jpeg", 12_000), ("paper", 900_000)), (0.0, 0.5))
    rows = [{"codec": codec, "bytes": of, "burst": burst, "loss": x, **LEVEL} for burst, (codec, of), x in every]
    high, wide, _ = size(equal_bytes_figure(rows, [6000, 12_000]))
    assert (high, wide) == pytest.approx((150 * (2 * 3.6 + 0.6), 150 * 2 * 4.6), abs=2)
    assert equal_bytes_figure(rows, [6000, 12_000]) != equal_bytes_figure(
        rows, [6000, 900_000]
    )  # what is a reference differs
