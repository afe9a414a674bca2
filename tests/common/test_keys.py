"""A key is known by its id alone; its token carries it by hand, and a mistyped one is named as such."""

import hashlib
import hmac
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfec_common import hkdf
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_KEY, Key, new_key, read_token

KEY = Key(bytes(range(32)))
TOKEN = "gradfec1-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp76qc4"
SECRETS = st.binary(min_size=32, max_size=32)
BASE32 = string.ascii_lowercase + "234567"


def reveals(text, key):
    """Whether a text has the key in it, in any of the forms in which one would print it."""
    forms = [key.token, key.token[9:-6], key.secret.hex(), repr(key.secret)[2:-1]]
    return any(form.lower() in text.lower() for form in forms)


def test_a_key_has_the_token_and_the_id_that_the_specification_gives():
    assert KEY.token == TOKEN
    assert KEY.id.hex() == "8629733e8b1e31d4"


@given(SECRETS)
def test_a_token_is_base32_of_the_key_and_of_three_bytes_of_its_hash(secret):
    token = Key(secret).token
    assert len(token) == 65
    number = 0
    for character in token.removeprefix("gradfec1-"):
        number = number * 32 + BASE32.index(character)
    assert number.to_bytes(35, "big") == secret + hashlib.sha256(b"gradfec1 token check" + secret).digest()[:3]


@given(SECRETS)
def test_an_id_is_eight_bytes_of_hkdf_under_a_label_of_its_own(secret):
    root = hmac.digest(bytes(32), secret, "sha256")
    assert Key(secret).id == hmac.digest(root, b"gradfec 3 id\x01", "sha256")[:8]


@given(SECRETS)
def test_a_token_gives_the_key_back(secret):
    key = Key(secret)
    assert read_token(key.token) == key
    assert read_token(f"  {key.token.upper()}\r\n") == key


def test_every_mistyped_character_is_noticed_and_none_is_repeated():
    for place in range(9, len(TOKEN)):
        for character in sorted(set(BASE32 + "0189!é -") - {TOKEN[place]}):
            mistyped = TOKEN[:place] + character + TOKEN[place + 1 :]
            with pytest.raises(GradfecError, match="mistyped") as caught:
                read_token(mistyped)
            assert TOKEN[9:30] not in str(caught.value)
            assert caught.value.__cause__ is None


def test_every_pair_of_swapped_neighbours_is_noticed():
    for place in range(9, len(TOKEN) - 1):
        swapped = TOKEN[:place] + TOKEN[place + 1] + TOKEN[place] + TOKEN[place + 2 :]
        if swapped != TOKEN:
            with pytest.raises(GradfecError, match="mistyped"):
                read_token(swapped)


def test_a_token_that_is_cut_off_or_too_long_is_mistyped_with_its_length():
    for length in (9, 10, 17, 64):
        with pytest.raises(GradfecError, match=f"mistyped: it has {length - 9} characters after gradfec1- instead of"):
            read_token(TOKEN[:length])
    with pytest.raises(GradfecError, match="has 57 characters"):
        read_token(TOKEN + "a")


@pytest.mark.parametrize("text", ["", "gradfec", "gradfec2-" + TOKEN[9:], TOKEN[9:], "swordfish", "ssh-ed25519 AAAA"])
def test_what_does_not_begin_like_a_token_is_none(text):
    with pytest.raises(GradfecError, match="not a gradfec key: a key begins with gradfec1-"):
        read_token(text)


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_a_plain_error(text):
    for token in (text, "gradfec1-" + text, ("gradfec1-" + text).ljust(65, "a")):
        with pytest.raises(GradfecError):
            read_token(token)


def test_nothing_that_is_printed_of_a_key_reveals_it():
    for text in (repr(KEY), str(KEY), f"{KEY}", repr([KEY]), repr({"key": KEY})):
        assert not reveals(text, KEY)
    assert repr(KEY) == "Key(id=8629733e8b1e31d4)"


def test_a_key_is_what_the_entropy_gives():
    asked = []
    key = new_key(lambda count: asked.append(count) or bytes(range(count)))
    assert (key, asked) == (KEY, [32])


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_has_32_bytes(length):
    with pytest.raises(ValueError, match=f"32 bytes, not {length}"):
        Key(bytes(length))


def test_keys_are_equal_when_their_secrets_are():
    assert Key(bytes(range(32))) == KEY
    assert Key(bytes(32)) != KEY
    assert pickle.loads(pickle.dumps(KEY)) == KEY


def test_the_insecure_key_is_the_one_that_everybody_can_derive():
    assert INSECURE_KEY.secret == hashlib.sha256(b"gradfec --insecure: this key is public").digest()


def test_hkdf_is_that_of_rfc_5869():
    """Appendix A.1; `expand` puts its prefix before the label, and so the same is computed by hand."""
    secret = hkdf.extract(bytes(range(13)), b"\x0b" * 22)
    assert secret.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    first = hmac.digest(secret, b"gradfec 3 a label\x01", "sha256")
    second = hmac.digest(secret, first + b"gradfec 3 a label\x02", "sha256")
    assert hkdf.expand(secret, "a label", 42) == (first + second)[:42]
    assert hkdf.expand(secret, "a label") == first
