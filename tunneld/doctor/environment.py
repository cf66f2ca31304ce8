"""Variables that name an HTTP proxy: what they say, and whether the agent heeds them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ctl.address import Address, AddressError
from tunneld.doctor.finding import Finding, failed, passed, warned
from tunneld.proxyurl import ENVIRONMENT, parse_proxy, proxy_for

_NAMES = ("HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY", "NO_PROXY")


def environment_of(pid: int) -> dict[str, str] | None:
    """The variables that a process was started with; None if they are not for us to know."""
    try:
        octets = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    pairs = (each.decode("utf-8", "surrogateescape").partition("=") for each in octets.split(b"\0"))
    return {name: value for name, equals, value in pairs if equals}


def check_environment(
    setting: str, target: Address, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """What the environment says of proxies.

    Args:
      setting: the agent's ``proxy``.
      target: where it connects to.
    """
    present = [
        name for upper in _NAMES for name in (upper.lower(), upper) if environ.get(name, "").strip()
    ]
    names = ", ".join(present)
    if setting != ENVIRONMENT:
        way = "through the proxy that its `proxy` names" if setting else "directly"
        if not present:
            yield passed("proxy environment", f"no proxy is set; the agent connects {way}")
            return
        wrong = [name for name in present if not _is_right(name, environ[name])]
        if wrong:
            yield warned(
                "proxy environment",
                f"{', '.join(wrong)} cannot be read; the agent does not use it and connects {way}",
                "set it to http://HOST:PORT, or unset it",
            )
        else:
            yield passed(
                "proxy environment",
                f'{names} set, not used: the agent connects {way} (proxy = "environment" uses it)',
            )
        return
    try:
        proxy = proxy_for(setting, target, environ)
    except AddressError as exc:
        yield failed("proxy environment", str(exc), "set it to http://HOST:PORT")
        return
    if proxy is None:
        text = f"{names or 'no proxy is'} set; the agent connects to {target} directly"
        yield passed("proxy environment", text)
    else:
        yield passed("proxy environment", f"{names} set: the agent goes through {proxy}")


def _is_right(name: str, value: str) -> bool:
    if name.upper() == "NO_PROXY":
        return True
    try:
        parse_proxy(value)
    except AddressError:
        return False
    return True
