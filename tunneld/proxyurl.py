"""Which HTTP proxy leads to an address: as it is configured, or as the environment says.

The environment is read as curl and Go do it: ``HTTPS_PROXY``, since all that goes through is TLS,
then ``ALL_PROXY``, but for the hosts in ``NO_PROXY``; lower-case names come first.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ctl.address import Address, AddressError
from tunneld.serverurl import parse_authority

ENVIRONMENT = "environment"
"""Stands for a URL: the one that the environment has."""

_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy."""

    scheme: str
    """``http``, or ``https`` for TLS to the proxy."""
    address: Address
    credentials: bytes = b""
    """``user:password``, for Basic authentication (RFC 7617); b"" for none."""

    def __str__(self) -> str:
        """Without the credentials."""
        return f"{self.scheme}://{self.address}"

    @property
    def authorization(self) -> bytes:
        """What ``Proxy-Authorization`` says."""
        return b"Basic " + b64encode(self.credentials)


def parse_proxy(text: str) -> Proxy:
    """Read ``http[s]://[user:password@]host[:port]``; user and password may be percent-escaped.

    Raises:
      AddressError: it is not that. The credentials are not in the message.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:  # as in many environments
        scheme, rest = "http", text
    if scheme not in _PORTS:
        raise AddressError(f"a proxy of kind {scheme[:20]!r}; expected http://… or https://…")
    userinfo, at, authority = rest.removesuffix("/").rpartition("@")
    credentials = parse_credentials(unquote_to_bytes(userinfo)) if at else b""
    if "/" in authority:
        raise AddressError("a path behind the proxy's port; expected http://HOST:PORT")
    return Proxy(scheme, parse_authority(authority, _PORTS[scheme]), credentials)


def parse_credentials(octets: bytes) -> bytes:
    """Check ``user:password``. RFC 7617 section 2: no control characters.

    Raises:
      AddressError: it is not that.
    """
    if b":" not in octets:
        raise AddressError("the proxy's credentials have no ':'; expected USER:PASSWORD")
    if any(octet < 0x20 or octet == 0x7F for octet in octets):
        raise AddressError("the proxy's credentials hold a control character")
    return octets


def proxy_for(setting: str, target: Address, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy to take; None to connect directly.

    Args:
      setting: a URL, `ENVIRONMENT`, or "" for none.
    Raises:
      AddressError: what should be a proxy's URL is none.
    """
    if setting != ENVIRONMENT:
        return parse_proxy(setting) if setting else None
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        if url := _variable(environ, name):
            break
    else:
        return None
    if is_exempt(target, _variable(environ, "NO_PROXY")):
        return None
    try:
        return parse_proxy(url)
    except AddressError as exc:
        raise AddressError(f"{name} of the environment: {exc}") from exc


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name.lower()) or environ.get(name) or "").strip()


def is_exempt(target: Address, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` has the target: entries are ``*``, a domain (it and all below it, with
    or without a dot in front), an address or a network; each with ``:port`` for that port alone.
    """
    entries = no_proxy.lower().replace(",", " ").split()
    return any(_matches(entry, target) for entry in entries)


def _matches(entry: str, target: Address) -> bool:
    host = target.host.lower().rstrip(".")
    if entry == "*":
        return True
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        if port != str(target.port):
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # one of them is a name
    domain = entry.lstrip(".").rstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))
