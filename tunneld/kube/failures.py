"""From what httpx raises to a `KubeError` that says what lies behind it."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tunneld.kube.errors import KubeError


@contextmanager
def translated(request: httpx.Request) -> Iterator[None]:
    """Raise errors of httpx on the way to and from the API as a `KubeError` without a status."""
    try:
        yield
    except httpx.HTTPError as exc:
        raise unanswered(request, _why(exc)) from exc


def unanswered(request: httpx.Request, why: str) -> KubeError:
    """The error of a request that got no answer, in the words of Go's client."""
    return KubeError(0, "", f'{request.method.title()} "{request.url}": {why}')


def _why(exc: BaseException) -> str:
    """The text of the deepest cause that has one: httpx's own is often empty or says little."""
    texts = [_text(each) for each in _chain(exc)]
    return next((text for text in reversed(texts) if text), type(exc).__name__)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):  # one error for each address that was tried
            cause = cause.exceptions[0]
        else:  # httpcore hides the cause with `from None`
            cause = cause.__cause__ or cause.__context__


def _text(exc: BaseException) -> str:
    match exc:
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {exc.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(exc.reason or str(exc)).replace('_', ' ').lower()}"
        case socket.gaierror():
            return exc.strerror or str(exc)
        case OSError(errno=int(number)):
            return os.strerror(number)
        case BaseExceptionGroup():
            return ""
    return str(exc)
