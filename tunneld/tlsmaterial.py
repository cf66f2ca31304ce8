"""TLS from files that change while it is in use: certificate, key, CAs and revocation lists.

Each handshake asks for the context of the moment; connections keep the one that they began with. A
change is prepared first, all of it, and taken afterwards or not at all: a file that is half written
or does not fit the others changes nothing.
"""

import hashlib
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from tunneld.certfile import Fact, certificate_facts, crl_fact, has_signed, name_text, read_crls
from tunneld.role import RoleError
from tunneld.tlscontext import client_context, server_context

if TYPE_CHECKING:
    from cryptography import x509

log = structlog.get_logger(__name__)

FileUse: TypeAlias = Literal["cert", "key", "ca", "crl"]
FileChange: TypeAlias = tuple[FileUse, str, str]
"""A file's use, what it said, and what it says now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which files, and how they are used. Two that are equal make the same of the same files."""

    cert: str
    """Paths; "" for none."""
    key: str
    ca: str
    crl: tuple[str, ...] = ()
    alpn: tuple[str, ...]

    def files(self) -> list[tuple[FileUse, str]]:
        """The files that there are, each with its use."""
        files: list[tuple[FileUse, str]] = [
            ("cert", self.cert),
            ("key", self.key),
            ("ca", self.ca),
            *(("crl", path) for path in self.crl),
        ]
        return [(use, path) for use, path in files if path]

    def certificates(self) -> list[tuple[Literal["cert", "ca"], str]]:
        """The files with certificates."""
        files: list[tuple[Literal["cert", "ca"], str]] = [("cert", self.cert), ("ca", self.ca)]
        return [(use, path) for use, path in files if path]

    def make_context(self) -> ssl.SSLContext:
        """Raises RoleError: a file is missing, unreadable, or not what it should be."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSource(Source):
    """For a listener; ``ca`` is that of the clients."""

    min_version: str = "1.2"
    ciphers: tuple[str, ...] = ()
    optional: bool = False
    """Whether clients may show no certificate."""

    def make_context(self) -> ssl.SSLContext:
        return server_context(
            self.cert,
            self.key,
            self.ca,
            list(self.alpn),
            self.min_version,
            self.ciphers,
            self.crl,
            optional=self.optional,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSource(Source):
    """For dialling."""

    def make_context(self) -> ssl.SSLContext:
        return client_context(self.cert, self.key, self.ca, list(self.alpn), self.crl)


@dataclass(frozen=True, eq=False)
class Loaded:
    """What was made of the files at a time."""

    source: Source
    octets: dict[str, bytes]
    """Of the files, by path; of the key, and of what cannot be read, a digest."""
    context: ssl.SSLContext

    @cached_property
    def crls(self) -> "tuple[x509.CertificateRevocationList, ...]":
        """The revocation lists in the files."""
        return tuple(crl for path in self.source.crl for crl in read_crls(self.octets[path]))

    @property
    def without_list(self) -> list[str]:
        """CAs that need a revocation list and have none."""
        ca = self.source.ca
        if not (ca and self.source.crl):
            return []
        from cryptography import x509

        issuers = [crl.issuer for crl in self.crls]
        authorities = x509.load_pem_x509_certificates(self.octets[ca])
        return [name_text(each.subject) for each in authorities if each.subject not in issuers]

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """What the files say. Found out when it is asked for: the library that reads certificates
        takes memory, and a program may never ask."""
        facts: list[Fact] = []
        for use, path in self.source.certificates():
            facts += certificate_facts(path, use, self.octets[path])
        for path in self.source.crl:
            facts += (crl_fact(path, crl) for crl in read_crls(self.octets[path]))
        return tuple(facts)


class TlsMaterial:
    """See the module.

    Raises:
      RoleError: a file cannot be used.
    """

    def __init__(self, source: Source) -> None:
        self.take(load(source))

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self.loaded.context

    def prepare(self, source: Source) -> Loaded | None:
        """What to `take`, or None if neither files nor settings have changed.

        Raises:
          RoleError: a file cannot be used.
        """
        if source == self.loaded.source and _octets_of(source) == self.loaded.octets:
            return None
        return load(source)

    def take(self, loaded: Loaded) -> None:
        """Use it from the next handshake on."""
        self.loaded = loaded
        for name in loaded.without_list:
            log.warning("no revocation list of this CA: whom it has signed is refused", ca=name)

    def changes(self, loaded: Loaded) -> list[FileChange]:
        """What ``loaded`` would change in files that stay where they are."""
        before = self.loaded
        return [
            (use, _shown(before, path), _shown(loaded, path))
            for path, use in {path: use for use, path in loaded.source.files()}.items()
            if path in before.octets and before.octets[path] != loaded.octets[path]
        ]


def load(source: Source) -> Loaded:
    """Read and check the files.

    Raises:
      RoleError: one cannot be used.
    """
    # The octets first: whatever is written after this is a change.
    octets = _octets_of(source)
    loaded = Loaded(source, octets, source.make_context())
    if source.crl:
        _check_crls(loaded)
    return loaded


def _octets_of(source: Source) -> dict[str, bytes]:
    octets = {}
    for use, path in source.files():
        try:
            data = Path(path).read_bytes()
        except OSError as exc:  # that is for whoever makes a context of it to say
            data = str(exc).encode()
        octets[path] = hashlib.sha256(data).digest() if use == "key" else data
    return octets


def _check_crls(loaded: Loaded) -> None:
    """Refuse a list that a CA of ours has not signed: with it, OpenSSL would refuse everybody.

    Raises:
      RoleError: there is one, or a file cannot be read.
    """
    from cryptography import x509

    ca = loaded.source.ca
    try:
        authorities = x509.load_pem_x509_certificates(loaded.octets[ca]) if ca else []
        crls = loaded.crls
    except ValueError as exc:
        files = ", ".join([ca, *loaded.source.crl])
        raise RoleError(f"cannot use {files}: {exc}; expected certificates and their CRLs") from exc
    for crl in crls:
        named = [each for each in authorities if each.subject == crl.issuer]
        if named and not any(has_signed(each, crl) for each in named):
            raise RoleError(
                f"cannot use {', '.join(loaded.source.crl)}: the CRL of {name_text(crl.issuer)!r} "
                f"is not signed by the CA of that name in {ca}; make it anew: tunnelctl certs crl"
            )


def _shown(loaded: Loaded, path: str) -> str:
    """What one of the files says; of a key nothing but a digest."""
    uses = {each: use for use, each in loaded.source.files()}
    if uses.get(path) == "key":
        return f"sha256 {loaded.octets[path].hex()[:16]}"
    try:
        return "; ".join(str(fact) for fact in loaded.facts if fact.file == path) or "nothing"
    except ValueError as exc:  # OpenSSL reads some that others do not
        return f"unreadable: {exc}"
