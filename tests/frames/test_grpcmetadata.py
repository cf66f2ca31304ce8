import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames.grpcmetadata import metadata_field, parse_metadata
from frames.grpcstatus import GrpcError, Status


def test_the_values_of_a_name_are_kept_in_order() -> None:
    headers = [(b"agentid", b"a"), (b"x", b""), (b"agentid", b"b")]
    assert parse_metadata(headers) == {b"agentid": [b"a", b"b"], b"x": [b""]}


@pytest.mark.parametrize(
    "name",
    [
        b":path",
        b":status",
        b"content-type",
        b"user-agent",
        b"te",
        b"host",
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-status-details-bin",
    ],
)
def test_what_is_the_protocols_is_no_metadata(name: bytes) -> None:
    assert parse_metadata([(name, b"?"), (b"serverid", b"1")]) == {b"serverid": [b"1"]}


BINARY: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "padding": (b"QQ==", b"A"),
    "no padding": (b"QQ", b"A"),
    "one octet of padding": (b"QUI=", b"AB"),
    "none needed": (b"QUJD", b"ABC"),
}


@pytest.mark.parametrize(("value", "octets"), BINARY.values(), ids=BINARY)
def test_binary_values_are_decoded_with_or_without_padding(value: bytes, octets: bytes) -> None:
    assert parse_metadata([(b"trace-bin", value)]) == {b"trace-bin": [octets]}


@pytest.mark.parametrize("value", [b"QQ=", b"Q", b"Q===", b"QQ==QQ==", b"Q!==", b"Q Q=", b"===="])
def test_a_binary_value_that_is_no_base64_is_a_bad_request(value: bytes) -> None:
    with pytest.raises(GrpcError) as caught:
        parse_metadata([(b"trace-bin", value)])
    text = f'malformed binary metadata "{value.decode()}" in header "trace-bin": '
    assert caught.value.message.startswith(text)
    assert (caught.value.status, caught.value.http_status) == (Status.INTERNAL, 400)


@given(st.binary())
def test_binary_values_arrive_as_they_were(octets: bytes) -> None:
    field = metadata_field((b"trace-bin", octets))
    assert not field[1].endswith(b"=")
    assert parse_metadata([field]) == {b"trace-bin": [octets]}


def test_other_values_stand_for_themselves() -> None:
    assert metadata_field((b"agentidentifiers", b"a=b&c=d")) == (b"agentidentifiers", b"a=b&c=d")
