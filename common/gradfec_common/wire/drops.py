"""Why a datagram was not used."""

from __future__ import annotations

from enum import Enum


class Drop(str, Enum):
    """Why a datagram was not used. Every received datagram has exactly one fate; these are the bad ones."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NOT_GRADFEC = "not_gradfec"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_SESSION = "unknown_session"
    FOREIGN_ADDRESS = "foreign_address"
    RATE_LIMIT = "rate_limit"
    FORGED = "forged"
    REPLAYED = "replayed"
    TOO_OLD = "too_old"
    BAD_MESSAGE = "bad_message"
    UNKNOWN_QUANTISER = "unknown_quantiser"
    UNKNOWN_CODE = "unknown_code"
    BAD_PARAMETERS = "bad_parameters"
    BAD_LENGTH = "bad_length"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    LATE = "late"
    OUT_OF_WINDOW = "out_of_window"
    UNEXPECTED = "unexpected"
    TENSOR_LIMIT = "tensor_limit"
    MEMORY_LIMIT = "memory_limit"
    LEAVING = "leaving"
