"""Changes to certificates that are in use: revoking and renewing them, and replacing a CA.

A CA is replaced in three steps, since everybody has to trust the new one before somebody shows a
certificate of it: `add_authority` puts the new CA beside the old one in ``ca.crt``, which then goes
to all hosts; `renew` makes all certificates anew, by the new CA; `drop_authority` ends the old one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from tunneld.certfile import has_signed, read_crls
from tunneld.certificate import (
    LEAF_DAYS,
    Credential,
    PkiError,
    common_name,
    issue,
    load,
    make_authority,
    make_crl,
    read,
    renewal_request,
    utc_now,
)
from tunneld.pki import OLD_CA, Outcome, Pki, Side, write_private

_GENERATION = re.compile(r" G(\d+)$")


@dataclass(frozen=True, slots=True)
class _List:
    """What a revocation list says."""

    revoked: Mapping[int, datetime]
    number: int = 0


class Registrar(Pki):
    """See the module. Each method takes the lock of the directory."""

    def init(
        self,
        server_addresses: Sequence[str] = (),
        agent_id: str | None = None,
        *,
        force: bool = False,
        now: datetime | None = None,
    ) -> list[Outcome]:
        """As `Pki.init`; a CA that is made anew has nothing to do with lists of the one before."""
        outcomes = super().init(server_addresses, agent_id, force=force, now=now)
        new = [each.path for each in outcomes if each.made]
        with self._locked():
            for side in Side:
                if self.certificate_path(side, "ca") in new:
                    self.key_path(side, OLD_CA).unlink(missing_ok=True)
                    if self.list_path(side).exists():
                        self._write_lists(side, utc_now())
        return outcomes

    def revoke(self, name: str) -> Path:
        """Put a certificate on its CA's list.

        Args:
          name: ``agent/home``; ``home`` if there is but one.
        Returns:
          The file with the list.
        Raises:
          PkiError: there is no such certificate, or its CA's key is not here.
          OSError: the directory cannot be written.
        """
        with self._locked():
            side, stem = self._find(name)
            path = self.certificate_path(side, stem)
            certificate = self._read(path)
            issuer = self._issuer_of(side, certificate, path)
            self._write_lists(side, utc_now(), {issuer: certificate.serial_number})
        return self.list_path(side)

    def revoke_serial(self, side: Side, serial: int) -> Path:
        """The same of a certificate whose file is not here any more, of the CA of today.

        Raises:
          PkiError: no CA.
          OSError: the directory cannot be written.
        """
        with self._locked():
            issuer = self._authority(side).certificate.subject.public_bytes()
            self._write_lists(side, utc_now(), {issuer: serial})
        return self.list_path(side)

    def refresh_lists(self) -> list[Path]:
        """Make the revocation lists anew, good for another while, and those that are missing.

        Raises:
          PkiError: no CA, or a list that cannot be read.
          OSError: the directory cannot be written.
        """
        with self._locked():
            for side in Side:
                self._write_lists(side, utc_now())
        return [self.list_path(side) for side in Side]

    def renew(self, names: Sequence[str] = (), days: int = LEAF_DAYS) -> list[Path]:
        """Make certificates anew that say the same, with keys of their own; those before stay valid
        until they expire, or are revoked first.

        Args:
          names: as `revoke`; none stands for all that are not revoked.
        Raises:
          PkiError: there is no such certificate, no CA, or it is revoked.
          OSError: the directory cannot be written.
        """
        with self._locked():
            renewed = []
            for side, stem in [self._find(name) for name in names] or self._leaves():
                path = self.certificate_path(side, stem)
                certificate = self._read(path)
                if self._is_revoked(side, certificate):
                    if not names:
                        continue
                    raise PkiError(
                        f"{path} is revoked",
                        "to let its holder in again: tunnelctl certs issue … --force",
                    )
                request = renewal_request(certificate, days)
                renewed.append((side, stem, issue(self._authority(side), request, utc_now())))
            return [self._store(side, stem, credential) for side, stem, credential in renewed]

    def add_authority(self, side: Side) -> Path:
        """Put a new CA beside the one there is: from now on it signs, and both are trusted.

        Raises:
          PkiError: no CA, or one is being replaced already.
          OSError: the directory cannot be written.
        """
        with self._locked():
            old = self._authority(side)
            if self.key_path(side, OLD_CA).exists():
                raise PkiError(
                    f"the {side} CA is being replaced already",
                    "renew all certificates, and then: tunnelctl certs rotate-ca --finish",
                )
            new = make_authority(_next_name(common_name(old.certificate)), utc_now())
            path = self.certificate_path(side, "ca")
            write_private(self.key_path(side, OLD_CA), old.key_pem())
            write_private(self.key_path(side, "ca"), new.key_pem())
            write_private(path, new.certificate_pem() + path.read_bytes())
            if self.list_path(side).exists():
                self._write_lists(side, utc_now())
        return path

    def drop_authority(self, side: Side, *, force: bool = False) -> Path:
        """Trust the new CA alone.

        Args:
          force: even if certificates of the old one are here.
        Raises:
          PkiError: there is no old one, or certificates of it.
          OSError: the directory cannot be written.
        """
        with self._locked():
            new = self._authority(side)
            path, old_key = self.certificate_path(side, "ca"), self.key_path(side, OLD_CA)
            if not old_key.exists():
                raise PkiError(
                    f"the {side} CA is not being replaced", "begin: tunnelctl certs rotate-ca"
                )
            for stem in [] if force else self._leaves_of(side):
                leaf = self.certificate_path(side, stem)
                if self._read(leaf).issuer != new.certificate.subject:
                    raise PkiError(
                        f"{leaf} is signed by the old CA", "renew it first: tunnelctl certs renew"
                    )
            write_private(path, new.certificate_pem())
            old_key.unlink()
            if self.list_path(side).exists():
                self._write_lists(side, utc_now())
        return path

    # -- certificates ---------------------------------------------------------------------------

    def _leaves(self) -> list[tuple[Side, str]]:
        return [(side, stem) for side in Side for stem in self._leaves_of(side)]

    def _leaves_of(self, side: Side) -> list[str]:
        paths = sorted((self.directory / side).glob("[!.]*.crt"))
        return [path.stem for path in paths if path.stem != "ca"]

    def _find(self, name: str) -> tuple[Side, str]:
        found = [(side, stem) for side, stem in self._leaves() if name in (stem, f"{side}/{stem}")]
        if len(found) == 1:
            return found[0]
        if found:
            names = " or ".join(f"{side}/{stem}" for side, stem in found)
            raise PkiError(f"there are several certificates {name!r}", f"name one: {names}")
        raise PkiError(
            f"there is no certificate {name!r} in {self.directory}", "see: tunnelctl certs list"
        )

    def _read(self, path: Path) -> x509.Certificate:
        try:
            return read(path.read_bytes())
        except ValueError as exc:
            raise PkiError(f"cannot read {path}: {exc}", "put another in place") from exc

    # -- revocation lists -----------------------------------------------------------------------

    def _is_revoked(self, side: Side, certificate: x509.Certificate) -> bool:
        known = self._lists(side).get(certificate.issuer.public_bytes())
        return known is not None and certificate.serial_number in known.revoked

    def _issuer_of(self, side: Side, certificate: x509.Certificate, path: Path) -> bytes:
        """The name of the CA that has signed it.

        Raises:
          PkiError: none of ours has.
        """
        for signer in self._signers(side):
            try:
                certificate.verify_directly_issued_by(signer.certificate)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return signer.certificate.subject.public_bytes()
        raise PkiError(f"{path} was signed by another CA", "have that CA revoke it")

    def _signers(self, side: Side) -> list[Credential]:
        """The CA, and the one before it while that one counts."""
        authority = self._authority(side)
        key = self.key_path(side, OLD_CA)
        if not key.exists():
            return [authority]
        bundle = x509.load_pem_x509_certificates(self.certificate_path(side, "ca").read_bytes())
        encoded = [each.public_bytes(serialization.Encoding.PEM) for each in bundle[1:]]
        return [authority, *(load(each, key.read_bytes()) for each in encoded[:1])]

    def _lists(self, side: Side) -> dict[bytes, _List]:
        """What there is, by issuer."""
        path = self.list_path(side)
        try:
            crls = read_crls(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as exc:
            raise PkiError(
                f"cannot read {path}: {exc}", "bring it back: who is revoked stands nowhere else"
            ) from exc
        signers = [signer.certificate for signer in self._signers(side)]
        return {
            crl.issuer.public_bytes(): _list(crl)
            for crl in crls
            if any(has_signed(signer, crl) for signer in signers)  # not one of a CA of before
        }

    def _write_lists(
        self, side: Side, now: datetime, more: Mapping[bytes, int] | None = None
    ) -> None:
        """Write a list of each CA that counts, with another serial number each by issuer."""
        before = self._lists(side)
        text = b""
        for signer in self._signers(side):
            issuer = signer.certificate.subject.public_bytes()
            known = before.get(issuer, _List({}))
            revoked = dict(known.revoked)
            if more and issuer in more:
                revoked.setdefault(more[issuer], now)
            crl = make_crl(signer, revoked, known.number + 1, now)
            text += crl.public_bytes(serialization.Encoding.PEM)
        write_private(self.list_path(side), text)


def _list(crl: x509.CertificateRevocationList) -> _List:
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    return _List({each.serial_number: each.revocation_date_utc for each in crl}, number)


def _next_name(name: str) -> str:
    """``tunneld agent CA`` is followed by ``tunneld agent CA G2``: two CAs of one name are hard to
    tell apart, for people and for OpenSSL."""
    found = _GENERATION.search(name)
    if found is None:
        return f"{name} G2"
    return f"{name[: found.start()]} G{int(found[1]) + 1}"
