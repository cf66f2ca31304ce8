import pytest

from frames import ErrorCode, LocalProtocolError, ProtocolError, RemoteProtocolError


@pytest.mark.parametrize(
    ("code", "text"), [(0, "NO_ERROR"), (0xD, "HTTP_1_1_REQUIRED"), (0xE, "code 0xe")]
)
def test_any_code_can_be_described(code: int, text: str) -> None:
    assert ErrorCode.describe(code) == text


def test_whose_fault_it_is_shows_in_the_type() -> None:
    theirs = RemoteProtocolError(ErrorCode.COMPRESSION_ERROR, "bad index")
    assert theirs.code is ErrorCode.COMPRESSION_ERROR
    assert str(theirs) == "bad index"
    assert isinstance(theirs, ProtocolError)
    assert isinstance(LocalProtocolError("ours"), ProtocolError)
