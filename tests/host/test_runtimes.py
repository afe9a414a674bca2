"""Which runtime is chosen, and the error where it is not installed."""

import pytest

from gradfec_common.errors import UsageError
from gradfec_host import runtimes
from gradfec_host.runtimes import LITERT, TENSORFLOW, choose_runtime, cores


def installed(monkeypatch, *names):
    packages = {runtimes.RUNTIMES[name] for name in names}
    monkeypatch.setattr(runtimes, "find_spec", lambda package: object() if package in packages else None)


def test_by_default_litert_is_preferred_to_tensorflow(monkeypatch):
    installed(monkeypatch, TENSORFLOW, LITERT)
    assert choose_runtime() == LITERT
    assert choose_runtime(TENSORFLOW) == TENSORFLOW
    installed(monkeypatch, TENSORFLOW)
    assert choose_runtime() == TENSORFLOW


def test_a_runtime_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    installed(monkeypatch, TENSORFLOW)
    with pytest.raises(UsageError, match=r"litert is not installed: pip install 'gradfec\[litert\]'; installed: te"):
        choose_runtime(LITERT)
    installed(monkeypatch)
    with pytest.raises(UsageError, match=r"pip install 'gradfec\[litert\]'; no other runtime is installed"):
        choose_runtime()


def test_cores_are_at_most_as_many_as_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    there = cores()
    for said, expected in (("1", 1), ("100000", there), ("0", 1), ("many", there), ("", there)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert cores() == expected
