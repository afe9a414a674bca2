"""DeepStack's requests for the things in a picture, which Frigate's `deepstack` detector and Home Assistant send. Pure.

https://codeproject.github.io/codeproject.ai/api/api_reference.html, whose server took the interface over: a form with
the file `image`, and perhaps `min_confidence`, from 0 to 1. The response has `success` and `predictions`: of each thing
`label`, `confidence` and its edges `x_min`, `y_min`, `x_max` and `y_max`, in pixels.
"""

from __future__ import annotations

import math
from typing import Any

from gradfec_cloud.infer.protocol import RequestError
from gradfec_common.heads import Answer

LEAST_CONFIDENCE = 0.4  # unless a request gives its own


def read_confidence(untrusted: object) -> float:
    """Read `min_confidence`, None if there is none; RequestError if it is not a share."""
    if untrusted is None or untrusted == "":
        return LEAST_CONFIDENCE
    try:
        least = float(untrusted) if isinstance(untrusted, str) else math.nan
    except ValueError:
        least = math.nan
    if not 0 <= least <= 1:
        raise RequestError("min_confidence is not a number from 0 to 1")
    return least


def predictions(answer: Answer, width: int, height: int, least: float) -> dict[str, Any]:
    """Return the response: what an answer finds with a confidence of `least` or more, in a picture of that size."""
    found = [
        {
            "label": label,
            "confidence": score,
            "x_min": round(left * width),
            "y_min": round(top * height),
            "x_max": round(right * width),
            "y_max": round(bottom * height),
        }
        for label, score, (left, top, right, bottom) in answer.boxes() or ()
        if score >= least
    ]
    return {"success": True, "predictions": found, "count": len(found)}
