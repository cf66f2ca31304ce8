"""Header sections of calls. Those of Go programs, and their texts, stand as they were seen."""

import pytest

from frames import ErrorCode, Headers
from frames import headers as http
from frames.errors import StreamProtocolError
from frames.grpc import (
    CONTENT_TYPE,
    GrpcError,
    Request,
    Response,
    Status,
    check_request,
    check_response,
    request_headers,
    response_headers,
    status_of_response,
    trailers,
    trailers_only,
    unimplemented,
)

FROM_GO: Headers = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":path", b"/AgentService/Connect"),
    (b":authority", b"127.0.0.1"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-go/1.83.0"),
    (b"te", b"trailers"),
    (b"agentid", b"Agent-A"),
    (b"agentidentifiers", b"host=example.test&default-route=true"),
]
AGENT = {
    b"agentid": [b"Agent-A"],
    b"agentidentifiers": [b"host=example.test&default-route=true"],
}


def with_field(name: bytes, value: bytes | None) -> Headers:
    """Go's request, with another value of a field, or without it."""
    others = [field for field in FROM_GO if field[0] != name]
    if value is None:
        return others
    if name.startswith(b":"):
        return [(name, value), *others]
    return [*others, (name, value)]


# -- server role ----------------------------------------------------------------------------------


def test_the_request_of_a_go_agent_is_taken() -> None:
    assert check_request(FROM_GO) == Request(
        path=b"/AgentService/Connect",
        authority=b"127.0.0.1",
        content_type=b"application/grpc",
        user_agent=b"grpc-go/1.83.0",
        timeout=None,
        encoding=b"",
        metadata=AGENT,
    )


def test_a_request_says_what_it_may() -> None:
    extra = [
        (b"grpc-timeout", b"1500m"),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-accept-encoding", b"gzip"),
        (b"agentid", b"Agent-B"),
        (b"trace-bin", b"QQ"),
    ]
    request = check_request([*FROM_GO, *extra])
    assert (request.timeout, request.encoding) == (1.5, b"gzip")
    assert request.metadata[b"agentid"] == [b"Agent-A", b"Agent-B"]
    assert request.metadata[b"trace-bin"] == [b"A"]
    assert b"grpc-accept-encoding" not in request.metadata


def test_a_request_may_do_without_te_user_agent_and_authority() -> None:
    headers = [field for field in FROM_GO if field[0] not in (b"te", b"user-agent", b":authority")]
    request = check_request(headers)
    assert (request.user_agent, request.authority) == (b"", b"")


def test_host_stands_in_for_authority() -> None:
    headers = [*with_field(b":authority", None), (b"host", b"proxy.test")]
    assert check_request(headers).authority == b"proxy.test"
    assert check_request([*FROM_GO, (b"host", b"127.0.0.1")]).authority == b"127.0.0.1"


def test_an_authority_may_be_odd() -> None:
    headers = with_field(b":authority", b"%2Fpath%2Fto%2Fsocket")
    assert check_request(headers).authority == b"%2Fpath%2Fto%2Fsocket"


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        (b"application/grpc", b"application/grpc"),
        (b"application/grpc+proto", b"application/grpc+proto"),
        (b"application/grpc;charset=utf-8", b"application/grpc"),
    ],
)
def test_the_response_has_the_content_type_of_the_request(
    content_type: bytes, answer: bytes
) -> None:
    assert check_request(with_field(b"content-type", content_type)).content_type == answer


ONE_EACH = "both must only have 1 value as per HTTP/2 spec"
REFUSED: dict[str, tuple[Headers, Status, int, str]] = {
    "another method": (
        with_field(b":method", b"GET"),
        Status.INTERNAL,
        405,
        'Received a HEADERS frame with :method "GET" which should be POST',
    ),
    "no content type": (
        with_field(b"content-type", None),
        Status.INVALID_ARGUMENT,
        415,
        'invalid gRPC request content-type ""',
    ),
    "another content type": (
        with_field(b"content-type", b"application/json"),
        Status.INVALID_ARGUMENT,
        415,
        'invalid gRPC request content-type "application/json"',
    ),
    "a longer content type": (
        with_field(b"content-type", b"application/grpc-web"),
        Status.INVALID_ARGUMENT,
        415,
        'invalid gRPC request content-type "application/grpc-web"',
    ),
    "no slash": (
        with_field(b":path", b"AgentService/Connect"),
        Status.UNIMPLEMENTED,
        200,
        'malformed method name: "AgentService/Connect"',
    ),
    "one slash": (
        with_field(b":path", b"/AgentService"),
        Status.UNIMPLEMENTED,
        200,
        'malformed method name: "/AgentService"',
    ),
    "a malformed timeout": (
        with_field(b"grpc-timeout", b"10"),
        Status.INTERNAL,
        400,
        'malformed grpc-timeout: transport: timeout unit is not recognized: "10"',
    ),
    "malformed binary metadata": (
        with_field(b"trace-bin", b"QQ="),
        Status.INTERNAL,
        400,
        'malformed binary metadata "QQ=" in header "trace-bin": incomplete padding',
    ),
    "two hosts": (
        [*FROM_GO, (b"host", b"127.0.0.1"), (b"host", b"127.0.0.1")],
        Status.INTERNAL,
        400,
        f"num values of :authority: 1, num values of host: 2, {ONE_EACH}",
    ),
    "two hosts and no authority": (
        [*with_field(b":authority", None), (b"host", b"a"), (b"host", b"a")],
        Status.INTERNAL,
        400,
        f"num values of :authority: 0, num values of host: 2, {ONE_EACH}",
    ),
}


@pytest.mark.parametrize(
    ("headers", "status", "http_status", "text"), REFUSED.values(), ids=REFUSED
)
def test_a_request_that_is_no_call_is_refused_as_by_go(
    headers: Headers, status: Status, http_status: int, text: str
) -> None:
    with pytest.raises(GrpcError) as caught:
        check_request(headers)
    error = caught.value
    assert (error.status, error.http_status, error.message) == (status, http_status, text)


BROKEN: dict[str, Headers] = {
    "connection": [*FROM_GO, (b"connection", b"close")],
    "upper case": [*FROM_GO, (b"AgentID", b"x")],
    "late pseudo-header": [*FROM_GO[1:], FROM_GO[0]],
    "authority twice": [FROM_GO[3], *FROM_GO],
    "another te": with_field(b"te", b"gzip"),
}


@pytest.mark.parametrize("headers", BROKEN.values(), ids=BROKEN)
def test_what_breaks_http_is_refused_before_it_is_a_call(headers: Headers) -> None:
    with pytest.raises(StreamProtocolError) as caught:
        http.check_request(1, headers, False)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/ProxyService/Proxy", "unknown service ProxyService"),
        (b"/AgentService/Nope", "unknown method Nope for service AgentService"),
        (b"/a/b/c", "unknown service a/b"),
        (b"//", "unknown service "),
    ],
)
def test_a_method_that_is_not_there_is_refused_as_by_go(path: bytes, text: str) -> None:
    error = unimplemented(check_request(with_field(b":path", path)), {b"AgentService"})
    assert (error.status, error.message) == (Status.UNIMPLEMENTED, text)


def test_a_response_begins_and_ends_as_that_of_a_go_server() -> None:
    extra = [(b"serverid", b"srv-1"), (b"servercount", b"1"), (b"trace-bin", b"A")]
    assert response_headers(CONTENT_TYPE, extra) == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"serverid", b"srv-1"),
        (b"servercount", b"1"),
        (b"trace-bin", b"QQ"),
    ]
    assert trailers(Status.OK) == [(b"grpc-status", b"0"), (b"grpc-message", b"")]
    assert trailers(Status.UNKNOWN, "dr\xfcben") == [
        (b"grpc-status", b"2"),
        (b"grpc-message", b"dr%C3%BCben"),
    ]


def test_a_response_of_trailers_only_is_one_section() -> None:
    assert trailers_only(
        Status.INVALID_ARGUMENT, "no", b"application/grpc+proto", http_status=415
    ) == [
        (b":status", b"415"),
        (b"content-type", b"application/grpc+proto"),
        (b"grpc-status", b"3"),
        (b"grpc-message", b"no"),
    ]


# -- client role ----------------------------------------------------------------------------------


def test_a_request_is_written_as_by_go() -> None:
    headers = request_headers(
        b"/AgentService/Connect",
        b"127.0.0.1",
        user_agent=b"grpc-go/1.83.0",
        extra=[(b"agentid", b"Agent-A"), FROM_GO[-1]],
    )
    assert headers == FROM_GO


def test_a_request_may_have_a_timeout_and_another_scheme() -> None:
    headers = request_headers(b"/a/b", b"%2Fsocket", scheme=b"http", timeout=1.5)
    http.check_request(1, headers, False)
    request = check_request(headers)
    assert (request.timeout, request.user_agent) == (1.5, b"")
    assert dict(headers)[b":scheme"] == b"http"


HEAD = response_headers(CONTENT_TYPE, [(b"serverid", b"srv-1"), (b"grpc-encoding", b"gzip")])


def test_the_head_of_a_response_says_its_metadata() -> None:
    assert check_response(HEAD) == Response(b"gzip", {b"serverid": [b"srv-1"]})


ENDINGS: dict[str, tuple[Headers, Headers | None, Status, str]] = {
    "well": (HEAD, trailers(Status.OK), Status.OK, ""),
    "with a message": (
        HEAD,
        trailers(Status.UNAVAILABLE, "dr\xfcben"),
        Status.UNAVAILABLE,
        "dr\xfcben",
    ),
    "without a message": (HEAD, [(b"grpc-status", b"14")], Status.UNAVAILABLE, ""),
    "trailers only": (trailers_only(Status.UNKNOWN, "why"), None, Status.UNKNOWN, "why"),
    "trailers only, another HTTP status": (
        trailers_only(Status.INVALID_ARGUMENT, "why", http_status=415),
        None,
        Status.INVALID_ARGUMENT,
        "why",
    ),
    "without trailers": (
        HEAD,
        None,
        Status.INTERNAL,
        "server closed the stream without sending trailers",
    ),
    "trailers without a status": (HEAD, [(b"grpc-message", b"why")], Status.UNKNOWN, "why"),
    "a code that is not gRPC's": (
        HEAD,
        [(b"grpc-status", b"99"), (b"grpc-message", b"why")],
        Status.UNKNOWN,
        "why",
    ),
    "a status that is no number": (
        HEAD,
        [(b"grpc-status", b"OK")],
        Status.UNKNOWN,
        'transport: malformed grpc-status: "OK"',
    ),
    "a status of very many digits": (
        HEAD,
        [(b"grpc-status", b"0" * 10)],
        Status.UNKNOWN,
        'transport: malformed grpc-status: "0000000000"',
    ),
    "a head with malformed metadata": (
        [*HEAD, (b"trace-bin", b"QQ=")],
        trailers(Status.OK),
        Status.INTERNAL,
        'malformed binary metadata "QQ=" in header "trace-bin": incomplete padding',
    ),
}


@pytest.mark.parametrize(
    ("headers", "trailing", "status", "message"), ENDINGS.values(), ids=ENDINGS
)
def test_a_call_ends_as_its_response_says(
    headers: Headers, trailing: Headers | None, status: Status, message: str
) -> None:
    assert status_of_response(headers, trailing) == (status, message)


ANOTHER_TYPE = "transport: received unexpected content-type"
UNEXPECTED = "unexpected HTTP status code received from server:"
NOT_GRPC: dict[str, tuple[Headers, Status, str]] = {
    "of a gateway": (
        [(b":status", b"503"), (b"content-type", b"text/html")],
        Status.UNAVAILABLE,
        f'{UNEXPECTED} 503 (Service Unavailable); {ANOTHER_TYPE} "text/html"',
    ),
    "without a content type": (
        [(b":status", b"404")],
        Status.UNIMPLEMENTED,
        f"{UNEXPECTED} 404 (Not Found); malformed header: missing HTTP content-type",
    ),
    "of another kind": (
        [(b":status", b"200"), (b"content-type", b"text/plain")],
        Status.UNKNOWN,
        f'{UNEXPECTED} 200 (OK); {ANOTHER_TYPE} "text/plain"',
    ),
    "with a status that nobody knows": (
        [(b":status", b"599")],
        Status.UNKNOWN,
        f"{UNEXPECTED} 599 (); malformed header: missing HTTP content-type",
    ),
}


@pytest.mark.parametrize(("headers", "status", "message"), NOT_GRPC.values(), ids=NOT_GRPC)
def test_a_response_that_is_not_grpcs_counts_by_its_http_status(
    headers: Headers, status: Status, message: str
) -> None:
    assert status_of_response(headers, None) == (status, message)
    assert status_of_response(headers, trailers(Status.OK)) == (status, message)
    with pytest.raises(GrpcError) as caught:
        check_response(headers)
    assert (caught.value.status, caught.value.message) == (status, message)


def test_all_that_we_write_can_be_sent() -> None:
    http.check_request(1, request_headers(b"/a/b", b"c", user_agent=b"d", timeout=5), False)
    http.check_response(1, trailers_only(Status.UNKNOWN, " \n\x00%\ud800 "))
    http.check_trailers(1, trailers(Status.UNKNOWN, " \n\x00%\ud800 "))
