"""What RFC 9113 section 8 allows in header sections, and what not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, Headers, LocalProtocolError
from frames.errors import StreamProtocolError
from frames.headers import (
    check_request,
    check_response,
    check_trailers,
    content_length,
    list_size,
    ours,
    response_length,
)
from tests.frames.peer import CONNECT, EXTENDED, GET, OK, POST, error_of


def without(headers: Headers, name: bytes) -> Headers:
    return [field for field in headers if field[0] != name]


def changed(headers: Headers, name: bytes, value: bytes) -> Headers:
    return [(field[0], value if field[0] == name else field[1]) for field in headers]


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        (GET, b"GET"),
        (without(GET, b":authority"), b"GET"),
        (POST, b"POST"),
        (CONNECT, b"CONNECT"),
        ([*GET, (b"te", b"trailers"), (b"x-empty", b"")], b"GET"),
        ([*GET, (b"host", b"Example.COM:443")], b"GET"),
        ([*GET, (b"cookie", b"a=b"), (b"cookie", b"c=d")], b"GET"),
        (changed(changed(GET, b":method", b"OPTIONS"), b":path", b"*"), b"OPTIONS"),
        (changed(changed(GET, b":scheme", b"urn"), b":path", b"no-slash"), b"GET"),
        ([*GET, (b"x", b"inner space\tand \x80\xff")], b"GET"),
    ],
)
def test_well_formed_requests_pass(headers: Headers, method: bytes) -> None:
    assert check_request(1, headers, extended_connect=False) == method


MALFORMED_REQUESTS: dict[str, Headers] = {
    "8.3.1 no method": without(GET, b":method"),
    "8.3.1 no scheme": without(GET, b":scheme"),
    "8.3.1 no path": without(GET, b":path"),
    "8.3.1 empty path": changed(GET, b":path", b""),
    "8.3.1 empty method": changed(GET, b":method", b""),
    "8.3.1 path without a slash": changed(GET, b":path", b"index.html"),
    "8.3.1 asterisk without OPTIONS": changed(GET, b":path", b"*"),
    "8.3.1 host of another authority": [*GET, (b"host", b"example.org")],
    "8.3.1 two hosts": [*without(GET, b":authority"), (b"host", b"a"), (b"host", b"b")],
    "8.3 method twice": [(b":method", b"GET"), *GET],
    "8.3 path twice": [*GET, (b":path", b"/")],
    "8.3 pseudo-header after others": [*GET[:3], (b"accept", b"*/*"), GET[3]],
    "8.3 unknown pseudo-header": [*GET, (b":unknown", b"x")],
    "8.3 status in a request": [*GET, (b":status", b"200")],
    "8.2.1 upper case": [*GET, (b"X-Test", b"1")],
    "8.2.1 space in a name": [*GET, (b"x test", b"1")],
    "8.2.1 colon in a name": [*GET, (b"x:y", b"1")],
    "8.2.1 empty name": [*GET, (b"", b"1")],
    "8.2.1 name above ASCII": [*GET, (b"caf\xe9", b"1")],
    "8.2.1 line feed in a name": [*GET, (b"x\n", b"1")],
    "8.2.1 line feed in a value": [*GET, (b"x", b"1\ninjected: 1")],
    "8.2.1 carriage return in a value": [*GET, (b"x", b"1\r")],
    "8.2.1 NUL in a value": [*GET, (b"x", b"1\x002")],
    "8.2.1 value starts with a space": [*GET, (b"x", b" 1")],
    "8.2.1 value ends with a tab": [*GET, (b"x", b"1\t")],
    "8.2.2 connection": [*GET, (b"connection", b"close")],
    "8.2.2 proxy-connection": [*GET, (b"proxy-connection", b"keep-alive")],
    "8.2.2 keep-alive": [*GET, (b"keep-alive", b"timeout=5")],
    "8.2.2 transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "8.2.2 upgrade": [*GET, (b"upgrade", b"h2c")],
    "8.2.2 te other than trailers": [*GET, (b"te", b"gzip")],
    "8.5 CONNECT without authority": [(b":method", b"CONNECT")],
    "8.5 CONNECT with scheme": [*CONNECT, (b":scheme", b"https")],
    "8.5 CONNECT with path": [*CONNECT, (b":path", b"/")],
    "RFC 8441 protocol without CONNECT": [*GET, (b":protocol", b"websocket")],
}


@pytest.mark.parametrize("headers", MALFORMED_REQUESTS.values(), ids=MALFORMED_REQUESTS)
def test_malformed_requests_break_their_stream(headers: Headers) -> None:
    with pytest.raises(StreamProtocolError) as caught:
        check_request(7, headers, extended_connect=True)
    assert (caught.value.stream_id, caught.value.code) == (7, ErrorCode.PROTOCOL_ERROR)


def test_extended_connect_needs_its_setting() -> None:
    assert check_request(1, EXTENDED, extended_connect=True) == b"CONNECT"
    with pytest.raises(StreamProtocolError, match="extended CONNECT"):
        check_request(1, EXTENDED, extended_connect=False)


@pytest.mark.parametrize("name", [b":scheme", b":path"])
def test_extended_connect_has_scheme_and_path(name: bytes) -> None:
    with pytest.raises(StreamProtocolError):
        check_request(1, without(EXTENDED, name), extended_connect=True)


@pytest.mark.parametrize("status", [b"100", b"103", b"200", b"204", b"599", b"999"])
def test_well_formed_responses_pass(status: bytes) -> None:
    assert check_response(1, [(b":status", status), (b"server", b"x")]) == status


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b":status", b"")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"abc")],
        [(b":status", b"099")],
        [(b":status", b"200\n")],
        [(b":status", b"101")],
        [*OK, *OK],
        [*OK, (b":path", b"/")],
        [(b"server", b"x"), *OK],
        [*OK, (b"connection", b"close")],
    ],
)
def test_malformed_responses_break_their_stream(headers: Headers) -> None:
    with pytest.raises(StreamProtocolError):
        check_response(1, headers)


def test_trailers_have_no_pseudo_headers() -> None:
    check_trailers(1, [(b"grpc-status", b"0"), (b"grpc-message", b"")])
    with pytest.raises(StreamProtocolError):
        check_trailers(1, OK)


@pytest.mark.parametrize(
    ("values", "length"),
    [([], None), ([b"0"], 0), ([b"42"], 42), ([b"7", b"7"], 7), ([b"00012"], 12)],
)
def test_content_length_is_one_number(values: list[bytes], length: int | None) -> None:
    assert content_length(1, [(b"content-length", value) for value in values]) == length


@pytest.mark.parametrize(
    "values", [[b""], [b"-1"], [b"+1"], [b"1, 1"], [b"0x10"], [b"1", b"2"], [b"9" * 19], [b"\xb2"]]
)
def test_any_other_content_length_breaks_the_stream(values: list[bytes]) -> None:
    with pytest.raises(StreamProtocolError, match="content-length"):
        content_length(1, [(b"content-length", value) for value in values])


@pytest.mark.parametrize(
    ("status", "to_head", "length"),
    [(b"200", False, 5), (b"200", True, 0), (b"204", False, 0), (b"304", False, 0)],
)
def test_some_responses_have_no_body_whatever_they_say(
    status: bytes, to_head: bool, length: int
) -> None:
    headers = [(b":status", status), (b"content-length", b"5")]
    assert response_length(1, headers, status, to_head) == length


def test_a_header_list_counts_32_octets_for_each_field() -> None:
    assert list_size([(b"ab", b"cde"), (b"", b"")]) == 5 + 32 + 32


def test_what_we_would_send_amiss_is_our_own_error() -> None:
    with pytest.raises(LocalProtocolError, match="method"), ours():
        check_request(0, [], extended_connect=False)


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8))))
def test_any_octets_pass_or_break_the_stream(headers: Headers) -> None:
    for check in (
        lambda: check_request(1, headers, True),
        lambda: check_response(1, headers),
        lambda: check_trailers(1, headers),
        lambda: content_length(1, headers),
    ):
        error = error_of(check)
        assert error is None or error.code is ErrorCode.PROTOCOL_ERROR
