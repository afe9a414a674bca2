"""The erasure codes: any k of n symbols decode, and nothing that native code would not survive passes their doors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.common.small_tensors import GRID, UNIFORM8, ZERO, bodies_of, coded, headers_of, matrix_of
from tests.common.toys import Xor

from gradfec_common import codes
from gradfec_common.codes import BARE, CODES, LEOPARD, ZFEC, fec_named, worth_threads, zfec_code
from gradfec_common.codes.leopard_code import LeopardCode
from gradfec_common.codes.zfec_code import ZfecCode
from gradfec_common.decode import decode_tensor
from gradfec_common.errors import UsageError
from gradfec_common.protect import Group, Plan, Stripe
from gradfec_common.reassembly import Reassembly
from gradfec_common.symbols import Packing

SEEDS = st.integers(0, 2**32 - 1)
EVERY = pytest.mark.parametrize("code", [*CODES.values()], ids=lambda code: code.name)
BOTH = pytest.mark.parametrize("code", [ZFEC, LEOPARD], ids=lambda code: code.name)


def code_word(code, k, n, length, seed):
    """All (n, length) symbols of a code word of random data."""
    data = np.random.default_rng(seed).integers(0, 256, (k, length), np.uint8)
    return np.concatenate([data, code.encode(data, n)])


@st.composite
def code_words(draw, code):
    most = min(code.max_n, 2048)
    k = draw(st.integers(1, most) | st.sampled_from([k for k in (1, 2, 128, 255, 256) if k <= most]))
    n = k if code is BARE else draw(st.integers(k, most) | st.just(most) | st.integers(k, min(k + 3, most)))
    return k, n, draw(st.integers(1, 40)) * code.word_bytes


def code_word_of(data, code):
    return data.draw(code_words(code), "k, n, length"), data.draw(SEEDS, "seed")


@EVERY
@given(st.data())
@settings(max_examples=50)
def test_any_k_of_n_symbols_give_the_data_back(code, data):
    (k, n, length), seed = code_word_of(data, code)
    symbols = code_word(code, k, n, length, seed)
    indices = np.random.default_rng(seed).permutation(n)[:k]
    np.testing.assert_array_equal(code.decode(symbols[indices], indices, k, n), symbols[:k])


@BOTH
@given(st.data())
@settings(max_examples=50)
def test_more_symbols_than_needed_in_any_order_do_no_harm(code, data):
    (k, n, length), seed = code_word_of(data, code)
    symbols = code_word(code, k, n, length, seed)
    rng = np.random.default_rng(seed)
    indices = rng.permutation(n)[: rng.integers(k, n + 1)]
    np.testing.assert_array_equal(code.decode(symbols[indices], indices, k, n), symbols[:k])


@EVERY
@given(st.data())
@settings(max_examples=30)
def test_decoding_and_encoding_leave_the_callers_arrays_as_they_were(code, data):
    (k, n, length), seed = code_word_of(data, code)
    symbols = code_word(code, k, n, length, seed)
    indices = np.random.default_rng(seed).permutation(n)[:k]
    received, places = symbols[indices], indices.copy()
    received.flags.writeable = places.flags.writeable = False
    code.decode(received, places, k, n)
    code.encode(symbols[:k], n)
    np.testing.assert_array_equal(received, symbols[indices])
    np.testing.assert_array_equal(places, indices)


@BOTH
def test_what_is_decoded_shares_no_memory_with_what_was_received(code):
    symbols = code_word(code, 3, 5, 8, 1)
    for indices in ([0, 1, 2], [0, 3, 4]):
        assert not np.shares_memory(code.decode(symbols[indices], np.array(indices), 3, 5), symbols)


@BOTH
def test_a_strided_view_of_data_encodes_as_its_copy_does(code):
    wide = np.random.default_rng(2).integers(0, 256, (10, 30), np.uint8)
    view = wide[::2, 3:21]
    np.testing.assert_array_equal(code.encode(view, 9), code.encode(view.copy(), 9))
    symbols = np.asfortranarray(np.concatenate([view, code.encode(view, 9)]))
    np.testing.assert_array_equal(code.decode(symbols[4:], np.arange(4, 9), 5, 9), view)


@BOTH
@pytest.mark.parametrize(
    ("indices", "says"),
    [
        ([0, 0, 1], "distinct"),  # zfec would hang for ever, holding the GIL
        ([0, 4, 4], "distinct"),  # zfec would return wrong data; a dictionary would keep one of them
        ([0, 1, 5], r"in 0 \.\. 4"),  # zfec would read out of bounds
        ([0, 1, -1], r"in 0 \.\. 4"),
        ([0, 1, 2**40], r"in 0 \.\. 4"),
        ([0.0, 1.0, 2.0], r"must be \(m,\) integers"),
        ([True, False, True], r"must be \(m,\) integers"),
        (["0", "1", "2"], r"must be \(m,\) integers"),
        ([[0], [1], [2]], r"indices of shape \(3, 1\)"),
        ([0, 1], "3 symbols at 2 indices"),
        ([0, 1, 2, 3], "3 symbols at 4 indices"),
        ([], r"must be \(m,\) integers"),
    ],
)
def test_indices_that_the_library_would_not_survive_are_refused(code, indices, says):
    symbols = code_word(code, 3, 5, 8, 1)
    with pytest.raises(ValueError, match=says):
        code.decode(symbols[:3], np.array(indices), 3, 5)


@BOTH
@pytest.mark.parametrize(
    "symbols", [np.zeros((3, 8)), np.zeros((3, 8), np.int8), np.zeros((3, 8, 8), np.uint8), np.zeros(8, np.uint8)]
)
def test_symbols_that_are_no_matrix_of_bytes_are_refused(code, symbols):
    with pytest.raises(ValueError, match=r"\(m, length\) uint8"):
        code.decode(symbols, np.arange(3), 3, 5)


@BOTH
def test_too_few_symbols_are_refused(code):
    symbols = code_word(code, 3, 5, 8, 1)
    with pytest.raises(ValueError, match="at least k = 3 of each are needed"):
        code.decode(symbols[:2], np.arange(2), 3, 5)
    with pytest.raises(ValueError, match="at least k = 3 of each are needed"):
        code.decode(symbols[:0], np.arange(0), 3, 5)


@pytest.mark.parametrize(
    ("code", "k", "n", "length"),
    [
        *((code, *sizes) for code in (ZFEC, LEOPARD) for sizes in ((3, 5, 0), (0, 5, 8), (3, 2, 8), (-1, 5, 8))),
        (ZFEC, 3, 257, 8),
        (LEOPARD, 3, 32_769, 8),
        (LEOPARD, 3, 2**64, 8),
        (LEOPARD, 3, 5, 7),
        (LEOPARD, 3, 5, 1),
    ],
)
def test_code_words_that_the_code_does_not_have_are_refused(code, k, n, length):
    says = f"{code.name} cannot code k = {k}, n = {n}, {length} bytes a symbol: it needs "
    if k >= 0:
        with pytest.raises(ValueError, match=says):
            code.encode(np.zeros((k, length), np.uint8), n)
    with pytest.raises(ValueError, match=says):
        code.decode(np.zeros((max(k, 1), length), np.uint8), np.arange(max(k, 1)), k, n)


@BOTH
@given(
    st.lists(st.integers(-2, 8), max_size=8),
    st.integers(-1, 6),
    st.integers(-1, 8),
    st.integers(0, 3),
    st.integers(0, 8),
)
def test_whatever_it_is_called_with_it_returns_or_raises_value_error(code, indices, k, n, length, count):
    symbols = np.zeros((count, length), np.uint8)
    try:
        data = code.decode(symbols, np.array(indices, np.intp), k, n)
    except ValueError:
        return
    assert data.shape == (k, length)


@BOTH
def test_a_systematic_code_word_that_arrived_whole_needs_no_decoding(code, monkeypatch):
    symbols = code_word(code, 200, 256, 6, 3)
    monkeypatch.setattr(zfec_code, "decoder", None)
    monkeypatch.setattr(codes.leopard_code, "reed_solomon_leopard", None)
    np.testing.assert_array_equal(code.decode(symbols[:200], np.arange(200), 200, 256), symbols[:200])


@pytest.mark.leopard
@pytest.mark.parametrize(
    ("k", "n"), [(1, 32_768), (32_767, 32_768), (16_384, 32_768), (30_000, 32_768), (20_000, 32_768)]
)
def test_the_largest_code_words_of_leopard_decode(k, n):
    symbols = code_word(LEOPARD, k, n, 2, 7)
    np.testing.assert_array_equal(LEOPARD.decode(symbols[n - k :], np.arange(n - k, n), k, n), symbols[:k])


def test_however_many_code_words_are_asked_for_only_so_many_coders_of_zfec_are_kept():
    for k in range(1, 3 * zfec_code.CODERS):
        symbols = code_word(ZFEC, k, k + 1, 1, 0)
        ZFEC.decode(symbols[1:], np.arange(1, k + 1), k, k + 1)
    assert zfec_code.encoder.cache_info().currsize == zfec_code.decoder.cache_info().currsize == zfec_code.CODERS


def test_the_code_none_has_no_parity_and_puts_symbols_in_their_order():
    data = np.arange(12, dtype=np.uint8).reshape(4, 3)
    assert BARE.encode(data, 4).shape == (0, 3)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(BARE.decode(data[order], order, 4, 4), data)
    with pytest.raises(ValueError, match="n = k"):
        BARE.encode(data, 5)
    with pytest.raises(ValueError, match="cannot be decoded from 3"):
        BARE.decode(data[:3], np.arange(3), 4, 4)


@pytest.mark.leopard
def test_codes_are_registered_under_the_ids_of_the_protocol():
    registered = {number: (code.name, code.max_n, code.word_bytes) for number, code in CODES.items()}
    assert registered.items() >= {0: ("none", 65_535, 1), 1: ("zfec", 256, 1), 2: ("leopard", 32_768, 2)}.items()


def test_each_code_is_registered_under_its_own_id_and_no_two_have_one_name():
    assert all(CODES[code.id] is code and 0 <= code.id <= 255 for code in CODES.values())
    assert len({code.name for code in CODES.values()}) == len(CODES)


@given(st.floats(0, 1))
def test_a_group_is_no_larger_than_its_code_has_it(share):
    assert all(2 <= code.group_n(share) <= code.max_n for code in CODES.values())


@pytest.mark.leopard
def test_a_code_is_had_by_its_name():
    assert fec_named("zfec") is ZFEC
    assert fec_named("leopard") is LEOPARD
    assert fec_named("zfec:64") == ZfecCode(64)
    assert fec_named("leopard:512") == LeopardCode(512)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("turbo", "'turbo' is not an erasure code: use zfec or leopard, or for example zfec:256"),
        ("", "'' is not an erasure code"),
        ("zfec:1", "'zfec:1': a group with zfec has 2 to 256 datagrams"),
        ("zfec:257", "a group with zfec has 2 to 256 datagrams"),
        ("leopard:32769", "a group with leopard has 2 to 32768 datagrams"),
        ("zfec:", "a group with zfec has 2 to 256 datagrams"),
        ("zfec:²", "a group with zfec has 2 to 256 datagrams"),
        ("zfec:-4", "a group with zfec has 2 to 256 datagrams"),
    ],
)
def test_what_is_no_code_is_refused_with_what_to_write_instead(text, says):
    with pytest.raises(UsageError, match=says):
        fec_named(text)


def test_a_code_whose_library_is_not_installed_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.delitem(CODES, LEOPARD.id, raising=False)
    with pytest.raises(
        UsageError, match=r"leopard needs the package reed-solomon-leopard, .* use zfec, or pip install"
    ):
        fec_named("leopard")
    assert fec_named("zfec") is ZFEC


@pytest.mark.parametrize(
    ("work", "threads"),
    [
        ([128 * 128] * 8, True),
        ([40 * 40] * 26, True),
        ([20 * 20] * 52, False),  # each is done before another thread has begun
        ([1024 * 1024], False),
        ([128 * 128, 8 * 1], False),
        ([], False),
    ],
)
def test_code_words_are_coded_in_threads_where_that_is_worth_it(work, threads):
    def in_threads(function, items):
        return map(function, items)

    assert worth_threads(work, in_threads) is (in_threads if threads else map)


# --- from outside ---


@given(SEEDS)
@settings(max_examples=40)
def test_a_strangers_code_goes_through_encoder_reassembly_and_decoder_under_loss(seed):
    """One datagram of each group is lost, and nothing of what was sent is missing."""
    rng, xor = np.random.default_rng(seed), Xor()
    parts = np.array_split(rng.permutation(12), rng.integers(1, 4))
    groups = [Group(len(part) + 1, (Stripe(part, Packing(np.arange(len(part) + 1), 31), xor),)) for part in parts]
    plan = Plan(12, np.empty(0, np.intp), tuple(groups))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CODES, xor.id, xor)
        bodies = matrix_of(bodies_of(plan, seed))
        group = headers_of([*bodies])["group"]
        lost = [rng.choice(np.flatnonzero(group == number)) for number in range(len(groups))]
        arrived = Reassembly(np.delete(bodies, lost, 0)[0].tobytes(), GRID)
        assert arrived.add(np.delete(bodies, lost, 0)) == {}
        decoded = decode_tensor(arrived, ZERO)
    packets, parameters, _ = coded(seed)
    np.testing.assert_array_equal(decoded.tensor, UNIFORM8.decode(packets, parameters, GRID).tensor)
    headers = headers_of([*bodies[lost]])
    assert (decoded.missing, decoded.recovered) == (0, int((headers["index"] < headers["n"] - 1).sum()))
