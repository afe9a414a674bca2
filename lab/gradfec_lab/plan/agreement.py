"""Whether an answer is the uncut network's."""

from __future__ import annotations

from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer, Classes, Head, Tensors


def agreement(answer: Answer, reference: Answer) -> float:
    """Return 1.0 if an answer agrees with the uncut network's, otherwise 0.0: by its likeliest class."""
    if isinstance(answer, Classes) and isinstance(reference, Classes):
        return float([best for best, *_ in answer.best[:1]] == [best for best, *_ in reference.best[:1]])
    return float(answer == reference)


def check_head(head: Head) -> None:
    """Raise UsageError for a head whose answers nobody can compare."""
    if isinstance(head.no_answer, Tensors):
        raise UsageError(f"a plan compares answers, and nobody knows when those of the head {head.name} agree")
