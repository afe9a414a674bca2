"""AES is preferred where the processor has instructions for it."""

import platform
import sys

import pytest

from gradfec_common.ciphers import Cipher
from gradfec_host.processor import preferred_cipher

AES, CHACHA = Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305


@pytest.mark.parametrize(
    ("cpuinfo", "cipher"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse aes avx\n\nprocessor\t: 1\n", AES),
        ("processor\t: 0\nflags\t\t: fpu sse avx\n", CHACHA),
        ("processor\t: 0\nflags\t\t: fpu vaes aesni\n", CHACHA),
        ("processor\t: 0\nFeatures\t: fp asimd aes pmull\nCPU part\t: 0xd0b\n", AES),
        ("processor\t: 0\nFeatures\t: half thumb neon\n", CHACHA),
        ("model name\t: aes\n", CHACHA),
        ("vmx flags\t: aes\n", CHACHA),
        ("", CHACHA),
    ],
)
def test_linux_is_asked(tmp_path, monkeypatch, cpuinfo, cipher):
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert preferred_cipher(tmp_path / "cpuinfo") is cipher


def test_a_linux_that_does_not_say_is_taken_to_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert preferred_cipher(tmp_path / "none") is CHACHA


@pytest.mark.parametrize(
    ("system", "machine", "cipher"),
    [
        ("darwin", "arm64", AES),
        ("darwin", "x86_64", AES),
        ("win32", "AMD64", AES),
        ("win32", "ARM64", AES),
        ("win32", "x86", CHACHA),
        ("freebsd14", "amd64", CHACHA),
    ],
)
def test_on_other_systems_the_kind_of_machine_decides(tmp_path, monkeypatch, system, machine, cipher):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert preferred_cipher(tmp_path / "none") is cipher
