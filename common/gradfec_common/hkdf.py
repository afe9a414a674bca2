"""Key derivation: HKDF with SHA-256 (RFC 5869). Each use has its own label, so no derived key reveals another."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

SECRET_BYTES = 32
LABEL_PREFIX = b"gradfec 3 "  # no label is a prefix of another one


def extract(salt: bytes, material: bytes) -> bytes:
    """Condense `material`, of any form but with enough entropy, into a 32-byte secret (RFC 5869, section 2.2)."""
    return HKDF.extract(SHA256(), salt, material)


def expand(secret: bytes, label: str, length: int = SECRET_BYTES) -> bytes:
    """Derive `length` bytes for the use that `label` names from a 32-byte secret (RFC 5869, section 2.3)."""
    return HKDFExpand(SHA256(), length, LABEL_PREFIX + label.encode()).derive(secret)
