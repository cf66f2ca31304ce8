"""Credentials: those that stay, and a token file that the kubelet replaces."""

from pathlib import Path

import pytest

from tunneld.kube.access import BasicCredentials, BearerToken, TokenFile, check_token


def test_tokens_and_passwords_become_headers() -> None:
    assert BearerToken("abc")() == "Bearer abc"
    # RFC 7617 section 2
    assert BasicCredentials("Aladdin", "open sesame")() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    token = TokenFile(path)
    assert token() == "Bearer first"
    path.write_text(" second ")
    assert token() == "Bearer second"


def test_the_last_good_token_is_used_while_the_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("good")
    token = TokenFile(path)
    for spoil in (path.unlink, path.touch, lambda: path.write_bytes(b"\xff\xfe")):
        spoil()
        assert token() == "Bearer good"
    path.write_text("better")
    assert token() == "Bearer better"


def test_a_file_that_stays_bad_is_complained_about_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    path.write_text("good")
    token = TokenFile(path)
    path.write_text("")
    for _ in range(3):
        token()
    assert capsys.readouterr().out.count("token file not usable") == 1


@pytest.mark.parametrize("text", ["", " \n", "a b", "a\nb", "a\x00", "ü", "a\x7f"])
def test_what_cannot_be_a_token_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        check_token(text)
    assert not text.strip() or text not in str(caught.value)
