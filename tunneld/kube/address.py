"""What is wrong with the URL of an API or of a proxy before it; each answer is "" if nothing is."""

from tunneld.schema import shown


def server_mistake(url: str) -> str:
    """What is wrong with the URL of an API."""
    expected = "expected https://HOST:PORT"
    if not url:
        return f"is missing, {expected}"
    return _mistake(url, ("https", "http"), expected)


def proxy_mistake(url: str) -> str:
    """What is wrong with the URL of a proxy; it may have a name and a password."""
    return _mistake(url, ("http", "https"), "expected http://HOST:PORT", with_user=True)


def _mistake(url: str, schemes: tuple[str, ...], expected: str, *, with_user: bool = False) -> str:
    import httpx

    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        return f"is no URL: {exc}, {expected}"
    if parsed.scheme not in schemes or not parsed.host:
        return f"is no URL of that kind: scheme {shown(parsed.scheme)}, {expected}"
    if parsed.port is not None and not 0 < parsed.port < 65536:
        return f"has port {parsed.port}, expected 1 to 65535"
    if parsed.userinfo and not with_user:
        return f"has a user name in it, {expected}"
    if parsed.query or parsed.fragment:
        return f"has a query or fragment, {expected}"
    return ""
