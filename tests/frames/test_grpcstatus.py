import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, ProtocolError
from frames.grpcstatus import (
    GrpcError,
    Status,
    percent_decode,
    percent_encode,
    quoted,
    shown,
    status_of_http,
    status_of_reset,
    undecodable,
)
from frames.headers import check_trailers
from frames.packet import PacketError

TEXTS = {
    Status.OK: "OK",
    Status.CANCELLED: "Canceled",
    Status.UNKNOWN: "Unknown",
    Status.INVALID_ARGUMENT: "InvalidArgument",
    Status.DEADLINE_EXCEEDED: "DeadlineExceeded",
    Status.NOT_FOUND: "NotFound",
    Status.ALREADY_EXISTS: "AlreadyExists",
    Status.PERMISSION_DENIED: "PermissionDenied",
    Status.RESOURCE_EXHAUSTED: "ResourceExhausted",
    Status.FAILED_PRECONDITION: "FailedPrecondition",
    Status.ABORTED: "Aborted",
    Status.OUT_OF_RANGE: "OutOfRange",
    Status.UNIMPLEMENTED: "Unimplemented",
    Status.INTERNAL: "Internal",
    Status.UNAVAILABLE: "Unavailable",
    Status.DATA_LOSS: "DataLoss",
    Status.UNAUTHENTICATED: "Unauthenticated",
}


@pytest.mark.parametrize("status", Status)
def test_every_status_has_the_text_that_go_gives_it(status: Status) -> None:
    assert status.text == TEXTS[status]


@pytest.mark.parametrize("code", range(17))
def test_the_codes_are_those_of_grpc(code: int) -> None:
    assert Status.of(code) == list(TEXTS)[code] == code


@pytest.mark.parametrize("code", [-1, 17, 2**31])
def test_a_code_that_is_not_grpcs_is_unknown(code: int) -> None:
    assert Status.of(code) is Status.UNKNOWN


HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


@pytest.mark.parametrize("code", [*HTTP, 200, 204, 302, 405, 415, 431, 500, 505, 999])
def test_an_http_status_means_what_it_means_to_go(code: int) -> None:
    assert status_of_http(code) == HTTP.get(code, 2)


RESETS = {
    ErrorCode.FLOW_CONTROL_ERROR: 8,
    ErrorCode.ENHANCE_YOUR_CALM: 8,
    ErrorCode.REFUSED_STREAM: 14,
    ErrorCode.CANCEL: 1,
    ErrorCode.INADEQUATE_SECURITY: 7,
}


@pytest.mark.parametrize("code", ErrorCode)
def test_a_reset_means_what_it_means_to_go(code: ErrorCode) -> None:
    assert status_of_reset(code) == RESETS.get(code, 13)


@pytest.mark.parametrize("code", [0xE, 0xFFFFFFFF])
def test_a_reset_of_no_known_code_is_unknown(code: int) -> None:
    assert status_of_reset(code) is Status.UNKNOWN


def test_an_error_says_its_message() -> None:
    error = GrpcError(Status.INTERNAL, "broken")
    assert (str(error), error.message, error.http_status) == ("broken", "broken", 200)
    assert isinstance(error, ProtocolError)


def test_an_undecodable_message_is_an_error_that_begins_as_gos() -> None:
    error = undecodable(PacketError("address is not UTF-8"))
    assert error.status is Status.INTERNAL
    assert error.message == ("grpc: failed to unmarshal the received message: address is not UTF-8")


# -- grpc-message ---------------------------------------------------------------------------------

ENCODED: dict[str, tuple[str, bytes]] = {
    "empty": ("", b""),
    "printable": ("Hello, ~World!", b"Hello, ~World!"),
    "percent": ("100%", b"100%25"),
    "control characters": ("a\r\n\t\x00\x7fb", b"a%0D%0A%09%00%7Fb"),
    "not ASCII": ("dr\xfcben \u2014 \U0001f600", b"dr%C3%BCben %E2%80%94 %F0%9F%98%80"),
    "a space at either end": (" a b ", b"%20a b%20"),
    "one space": (" ", b"%20"),
    "a line's end after a space": ("a \n", b"a %0A"),
}


@pytest.mark.parametrize(("text", "value"), ENCODED.values(), ids=ENCODED)
def test_texts_are_encoded_as_documented(text: str, value: bytes) -> None:
    assert percent_encode(text) == value
    assert percent_decode(value) == text


@given(st.text())
def test_any_text_becomes_a_field_value_that_can_be_sent(text: str) -> None:
    value = percent_encode(text)
    assert re.fullmatch(rb"[ -~]*", value)
    check_trailers(1, [(b"grpc-message", value)])
    assert percent_decode(value) == re.sub("[\ud800-\udfff]", "?", text)


DECODED: dict[str, tuple[bytes, str]] = {
    "lower case": (b"%c3%bc", "\xfc"),
    "no escape": (b"100% of %zz, %4", "100% of %zz, %4"),
    "a sign is no digit": (b"%+1%-1% 1", "%+1%-1% 1"),
    "an escaped percent sign begins nothing": (b"%2541", "%41"),
    "not UTF-8": (b"%ff\xfe", "\ufffd\ufffd"),
    "UTF-8 that is not escaped": ("\xfc".encode(), "\xfc"),
}


@pytest.mark.parametrize(("value", "text"), DECODED.values(), ids=DECODED)
def test_values_that_we_would_not_write_are_decoded(value: bytes, text: str) -> None:
    assert percent_decode(value) == text


@given(st.binary())
def test_any_value_is_a_text(value: bytes) -> None:
    assert percent_encode(percent_decode(value))[:1] != b" "


def test_what_a_peer_sent_is_quoted_as_by_go() -> None:
    assert quoted(b'a "b" \\ \xff \xc3\xbc') == '"a \\"b\\" \\\\ \\\\xff \xfc"'
    assert shown(b"a\xff") == "a\\xff"
