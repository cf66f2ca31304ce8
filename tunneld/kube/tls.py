"""TLS towards an API, from PEM in memory: kubeconfig files may hold certificates and keys."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


def client_context() -> ssl.SSLContext:
    """For a client: TLS 1.2 or later, names checked, no authority trusted yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def trust(context: ssl.SSLContext, authorities: bytes) -> None:
    """Trust the authorities in ``authorities`` (PEM).

    Raises:
      ValueError: there is none.
    """
    with _memory_file(authorities) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as exc:
            raise ValueError("holds no certificates, expected PEM") from exc


def show(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Have ``certificate`` shown to servers that ask for one.

    Args:
      certificate: PEM, the chain behind it included.
      key: PEM, not encrypted.
    Raises:
      ValueError: they are not PEM, or do not belong together.
    """

    def no_password() -> str:  # without this OpenSSL asks at the terminal
        raise ValueError("the key is encrypted, expected one that is not")

    with _memory_file(certificate) as certificate_path, _memory_file(key) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, no_password)
        except ssl.SSLError as exc:
            why = exc.reason or str(exc)
            raise ValueError(f"{why}, expected PEM that belongs together") from exc


@contextmanager
def _memory_file(data: bytes) -> Iterator[str]:
    """``data`` under a path: `ssl` takes keys from files alone, and none shall touch a disk."""
    descriptor = os.memfd_create("tunneld", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
