"""Which runtime is taken, and what is said where it is not installed."""

import pytest

from gradfec_common.errors import UsageError
from gradfec_host import runtimes
from gradfec_host.runtimes import LITERT, TENSORFLOW, choose_runtime


def installed(monkeypatch, *names):
    packages = {runtimes.RUNTIMES[name] for name in names}
    monkeypatch.setattr(runtimes, "find_spec", lambda package: object() if package in packages else None)


def test_unless_told_litert_is_taken_before_tensorflow(monkeypatch):
    installed(monkeypatch, TENSORFLOW, LITERT)
    assert choose_runtime() == LITERT
    assert choose_runtime(TENSORFLOW) == TENSORFLOW
    installed(monkeypatch, TENSORFLOW)
    assert choose_runtime() == TENSORFLOW


def test_what_is_not_installed_is_named_with_what_to_do(monkeypatch):
    installed(monkeypatch, TENSORFLOW)
    with pytest.raises(UsageError, match=r"litert is not installed: pip install 'gradfec\[litert\]'; installed: te"):
        choose_runtime(LITERT)
    installed(monkeypatch)
    with pytest.raises(UsageError, match=r"pip install 'gradfec\[litert\]'; no other runtime is installed"):
        choose_runtime()
