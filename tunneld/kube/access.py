"""Where an API is and what it is shown, as a kubeconfig file or a pod's surroundings tell it."""

import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

log = structlog.get_logger(__name__)

Authorization: TypeAlias = Callable[[], str]
"""Gives the value of the header ``authorization`` for the next request; "" for none."""


def no_authorization() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API."""

    source: str
    """Where this was read; for messages."""
    server: str
    """``https://HOST[:PORT][/PREFIX]`` or ``http://…``, without a slash at its end."""
    tls: ssl.SSLContext
    server_name: str = ""
    """Name that the certificate must show, if not the host's."""
    proxy: str = ""
    """URL of an HTTP proxy; "" for what the environment says."""
    authorization: Authorization = no_authorization
    namespace: str = ""
    """The one to use where none is named; "" if unknown."""


class BearerToken:
    """A token that does not change."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def __call__(self) -> str:
        return self._value


class BasicCredentials:
    """A user's name and password (RFC 7617)."""

    def __init__(self, username: str, password: str) -> None:
        octets = f"{username}:{password}".encode()
        self._value = f"Basic {base64.b64encode(octets).decode()}"

    def __call__(self) -> str:
        return self._value


class TokenFile:
    """A token read anew for each request, since the kubelet replaces it before it expires.

    While the file cannot be read, the last good token is used.

    Raises:
      OSError, ValueError: (by the constructor) there is no good token in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = self._read()
        self._complaint = ""

    def __call__(self) -> str:
        try:
            self._token = self._read()
            self._complaint = ""
        except (OSError, ValueError) as exc:
            self._complain(str(exc))
        return f"Bearer {self._token}"

    def _read(self) -> str:
        return check_token(self._path.read_text("ascii", errors="replace"))

    def _complain(self, error: str) -> None:
        if error != self._complaint:  # once, not with each request
            log.warning("token file not usable, going on with the last token", error=error)
        self._complaint = error


def check_token(text: str) -> str:
    """The token in ``text``, which may have white space around it.

    Raises:
      ValueError: it could not be sent in a header; the text does not quote it.
    """
    token = text.strip()
    if not token:
        raise ValueError("is empty, expected a token")
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("has characters that no token has, expected printable ASCII")
    return token
