"""The ciphers that may seal a session."""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from gradfec_common.ciphers import AEADS, Cipher


def test_the_ids_are_those_of_the_specification():
    assert {cipher.value: AEADS[cipher] for cipher in Cipher} == {1: AESGCM, 2: ChaCha20Poly1305}
