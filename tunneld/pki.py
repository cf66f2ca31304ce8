"""The certificates of a tunnel on disk: two CAs, and what each of them signed.

    DIR/frontend/   ca.crt ca.key server.crt server.key client.crt client.key
    DIR/agent/      ca.crt ca.key server.crt server.key agent.crt  agent.key
    DIR/*/          ca.crl, once something was revoked; ca.old.key while a CA is replaced

The frontend CA is for clients and the listener they use, the agent CA for agents and theirs: a
client's certificate opens no tunnel and an agent's dials nothing. `Pki.issue` puts more of them
beside these, by name. Directories are 0700, files 0600 from their first octet on; each file
appears whole or not at all, and a certificate only once its key is there.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from ctl.paths import PathError, make_private_directory
from tunneld.certfile import crl_fact, read_crls
from tunneld.certificate import (
    LEAF_DAYS,
    Credential,
    Kind,
    PkiError,
    Request,
    common_name,
    days_left,
    issue,
    kind_of,
    load,
    make_authority,
    peer_request,
    read,
    sans_of,
    server_request,
    utc_now,
    why_not_usable,
)

Fact = TypeVar("Fact")

RENEW_DAYS = 30
"""`Pki.init` makes a certificate anew that has fewer days left than this."""


OLD_CA = "ca.old"
"""The name of the key of the CA that was there before, while its certificates count."""


class Side(StrEnum):
    """The two CAs, each named for whom it admits."""

    FRONTEND = "frontend"
    AGENT = "agent"


ALWAYS_NAMES = {
    Side.FRONTEND: ("kubernetes", "localhost", "127.0.0.1"),
    Side.AGENT: ("kubernetes", "localhost"),
}
"""What the server's certificates show besides its addresses: konnectivity's demo has these, and
kube-apiserver reaches its proxy as ``kubernetes`` or on loopback."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `Pki.init` did about one certificate."""

    path: Path
    made: bool
    reason: str
    """Why it was made: "missing", "it lacks IP:2.2.2.2", …; "" if it was kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a certificate file of the directory says."""

    path: Path
    side: Side
    kind: Kind
    subject: str
    sans: tuple[str, ...]
    not_after: datetime
    serial: int = 0
    revoked: bool = False

    @property
    def name(self) -> str:
        file = self.path.name if self.kind is Kind.CRL else self.path.stem
        return f"{self.side}/{file}"

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.not_after - now).days


class Pki:
    """The certificates under one directory, which need not exist yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def certificate_path(self, side: Side, name: str) -> Path:
        return self.directory / side / f"{name}.crt"

    def key_path(self, side: Side, name: str) -> Path:
        return self.directory / side / f"{name}.key"

    def init(
        self,
        server_addresses: Sequence[str] = (),
        agent_id: str | None = None,
        *,
        force: bool = False,
        now: datetime | None = None,
    ) -> list[Outcome]:
        """Make both CAs and a server's, a client's and an agent's certificate, or what is missing.

        What is there and valid stays, unless ``force``. Takes some 10 ms when everything is new.

        Args:
          server_addresses: names and addresses by which clients and agents reach the server; none
            means those that the present certificate shows, or 127.0.0.1.
          agent_id: the common name of the agent's certificate; None means as it is, or ``demo``.
          now: replaces the clock, for tests.
        Raises:
          PkiError: a bad name, or a CA that cannot be read.
          OSError: the directory cannot be written.
        """
        now = now or utc_now()
        outcomes = []
        with self._locked():
            wanted = _wanted(
                server_addresses or self._present(Side.AGENT, "server", sans_of) or ["127.0.0.1"],
                agent_id or self._present(Side.AGENT, "agent", common_name) or "demo",
            )
            for side in Side:
                authority, outcome = self._keep_or_make_authority(side, now, force=force)
                outcomes.append(outcome)
                for name, request in wanted[side].items():
                    outcomes.append(
                        self._keep_or_issue(side, name, request, authority, now, force=force)
                    )
        return outcomes

    def issue(
        self,
        kind: Kind,
        name: str,
        sans: Sequence[str] = (),
        days: int = LEAF_DAYS,
        *,
        force: bool = False,
    ) -> list[Path]:
        """Make one more certificate; a server gets one of each CA, for its two listeners.

        Returns:
          Paths of the certificates; each key lies beside its certificate.
        Raises:
          PkiError: a bad name, no CA, or there is one of that name and not ``force``.
          OSError: the directory cannot be written.
        """
        if kind is Kind.SERVER:
            request = server_request(name, [name, *sans], days)
            sides = list(Side)
        else:
            request = peer_request(kind, name, sans, days)
            sides = [Side.AGENT if kind is Kind.AGENT else Side.FRONTEND]
        if not self.directory.is_dir():
            raise self._no_authority(self.directory)
        with self._locked():
            for side in sides:
                self._refuse_overwriting(side, name, force=force)
            made = {side: issue(self._authority(side), request, utc_now()) for side in sides}
            return [self._store(side, name, credential) for side, credential in made.items()]

    def entries(self) -> Iterator[Entry | PkiError]:
        """All certificates and revocation lists of the directory, by side and name; an error stands
        in the place of each file that cannot be read."""
        for side in Side:
            directory = self.directory / side
            revoked: set[tuple[bytes, int]] = set()
            for path in sorted(directory.glob("[!.]*.crl")) + sorted(directory.glob("[!.]*.crt")):
                try:
                    if path.suffix == ".crl":
                        yield from _read_lists(path, side, revoked)
                    else:
                        yield from _read_entries(path, side, revoked)
                except (OSError, ValueError) as exc:
                    yield PkiError(
                        f"cannot read {path}: {exc}", "remove it, or put another in place"
                    )

    def list_path(self, side: Side) -> Path:
        """Of the CA's revocation lists."""
        return self.directory / side / "ca.crl"

    def _keep_or_make_authority(
        self, side: Side, now: datetime, *, force: bool
    ) -> tuple[Credential, Outcome]:
        path = self.certificate_path(side, "ca")
        if not path.exists():
            reason = "missing"
        elif force:
            reason = "forced"
        else:
            authority = self._authority(side)
            if days_left(authority.certificate, now) >= 0:
                self._tighten(side, "ca")
                return authority, Outcome(path, made=False, reason="")
            reason = "expired"
        authority = make_authority(f"tunneld {side} CA", now)
        self._store(side, "ca", authority)
        return authority, Outcome(path, made=True, reason=reason)

    def _keep_or_issue(
        self,
        side: Side,
        name: str,
        request: Request,
        authority: Credential,
        now: datetime,
        *,
        force: bool,
    ) -> Outcome:
        path = self.certificate_path(side, name)
        reason = "forced" if force else self._why_make(side, name, request, authority, now)
        if reason:
            self._store(side, name, issue(authority, request, now))
        else:
            self._tighten(side, name)
        return Outcome(path, made=bool(reason), reason=reason)

    def _why_make(
        self, side: Side, name: str, request: Request, authority: Credential, now: datetime
    ) -> str:
        try:
            present = self._load(side, name)
        except FileNotFoundError:
            return "missing"
        except ValueError as exc:
            return str(exc)
        left = days_left(present.certificate, now)
        if left < min(RENEW_DAYS, days_left(authority.certificate, now)):
            return f"{left} days left" if left >= 0 else "expired"
        return why_not_usable(present.certificate, authority.certificate, request)

    def _present(
        self, side: Side, name: str, fact: Callable[[x509.Certificate], Fact]
    ) -> Fact | None:
        try:
            return fact(read(self.certificate_path(side, name).read_bytes()))
        except (FileNotFoundError, ValueError):
            return None

    def _authority(self, side: Side) -> Credential:
        path = self.certificate_path(side, "ca")
        try:
            return self._load(side, "ca")
        except FileNotFoundError as exc:
            raise self._no_authority(Path(exc.filename)) from exc
        except ValueError as exc:
            raise PkiError(
                f"the CA {path} cannot be used: {exc}",
                "put the right file back, or make everything anew: "
                f"tunnelctl certs init --dir {self.directory} --force",
            ) from exc

    def _no_authority(self, missing: Path) -> PkiError:
        init = f"tunnelctl certs init --dir {self.directory}"
        if missing.suffix == ".key":
            return PkiError(
                f"there is no {missing}, without which its CA signs nothing",
                f"bring that key back, or make everything anew: {init} --force",
            )
        return PkiError(f"there is no {missing}", f"make the CAs first: {init}")

    def _load(self, side: Side, name: str) -> Credential:
        return load(
            self.certificate_path(side, name).read_bytes(), self.key_path(side, name).read_bytes()
        )

    def _refuse_overwriting(self, side: Side, name: str, *, force: bool) -> None:
        path = self.certificate_path(side, name)
        if name in ("ca", OLD_CA):
            raise PkiError(f"{name!r} is the name of the CA itself", "choose another name")
        if path.exists() and not force:
            raise PkiError(f"{path} is there already", "choose another name, or --force")

    def _store(self, side: Side, name: str, credential: Credential) -> Path:
        """The certificate goes first and comes back last: whenever this is cut short, there is
        either a whole pair or no certificate, and then `init` makes the pair anew."""
        directory = self.directory / side
        _make_private(directory)
        certificate = self.certificate_path(side, name)
        certificate.unlink(missing_ok=True)
        write_private(self.key_path(side, name), credential.key_pem())
        write_private(certificate, credential.certificate_pem())
        return certificate

    def _tighten(self, side: Side, name: str) -> None:
        _make_private(self.directory / side)
        self.certificate_path(side, name).chmod(0o600)
        self.key_path(side, name).chmod(0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: the daemon and a command may both be at it."""
        _make_private(self.directory)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _wanted(server_addresses: Sequence[str], agent_id: str) -> dict[Side, dict[str, Request]]:
    """The leaf certificates of a tunnel, by file name."""

    def server(side: Side) -> Request:
        return server_request("server", [*ALWAYS_NAMES[side], *server_addresses])

    return {
        Side.FRONTEND: {
            "server": server(Side.FRONTEND),
            "client": peer_request(Kind.CLIENT, "client"),
        },
        Side.AGENT: {
            "server": server(Side.AGENT),
            "agent": peer_request(Kind.AGENT, agent_id),
        },
    }


def _read_lists(path: Path, side: Side, revoked: set[tuple[bytes, int]]) -> Iterator[Entry]:
    """The lists in a file; issuer and serial number of what is on them go into ``revoked``."""
    for crl in read_crls(path.read_bytes()):
        revoked |= {(crl.issuer.public_bytes(), each.serial_number) for each in crl}
        fact = crl_fact(str(path), crl)
        yield Entry(path, side, Kind.CRL, fact.subject, (), fact.not_after, fact.serial)


def _read_entries(path: Path, side: Side, revoked: set[tuple[bytes, int]]) -> Iterator[Entry]:
    """The certificates in a file: several of a CA that is being replaced."""
    data = path.read_bytes()
    first = read(data)
    for certificate in x509.load_pem_x509_certificates(data) if path.stem == "ca" else [first]:
        serial = certificate.serial_number
        yield Entry(
            path,
            side,
            kind_of(certificate),
            common_name(certificate),
            sans_of(certificate),
            certificate.not_valid_after_utc,
            serial,
            (certificate.issuer.public_bytes(), serial) in revoked,
        )


def _make_private(directory: Path) -> None:
    try:
        make_private_directory(directory)
    except PathError as exc:  # somebody else could exchange the keys
        raise PkiError(str(exc)) from exc


def write_private(path: Path, data: bytes) -> None:
    """Put a whole file of mode 0600 in place of ``path``. The caller holds the lock."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that was killed here
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
