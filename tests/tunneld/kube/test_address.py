import pytest

from tunneld.kube.address import proxy_mistake, server_mistake


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example:6443",
        "https://10.0.0.1",
        "https://[::1]:6443",
        "http://localhost:8080",
        "https://example.org/k8s/clusters/c-1/",
    ],
)
def test_servers_are_http_urls_that_may_have_a_prefix(url: str) -> None:
    assert server_mistake(url) == ""


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("", "is missing, expected https://HOST:PORT"),
        ("api.example:6443", 'is no URL of that kind: scheme "api.example"'),
        ("10.0.0.1", 'is no URL of that kind: scheme ""'),
        ("https://", 'is no URL of that kind: scheme "https"'),
        ("ftp://api", 'is no URL of that kind: scheme "ftp"'),
        ("https://api:port", "is no URL: "),
        ("https://a\nb", "is no URL: "),
        ("https://user:secret@api", "has a user name in it"),
        ("https://api?a=b", "has a query or fragment"),
        ("https://api#b", "has a query or fragment"),
    ],
)
def test_other_servers_are_refused(url: str, mistake: str) -> None:
    seen = server_mistake(url)
    assert seen.startswith(mistake)
    assert seen.endswith("expected https://HOST:PORT")
    assert "secret" not in seen


def test_proxies_may_have_a_password_which_is_never_shown() -> None:
    assert proxy_mistake("http://proxy:3128") == ""
    assert proxy_mistake("https://user:secret@proxy:3128") == ""
    seen = proxy_mistake("socks5://user:secret@proxy:1080")
    assert seen == 'is no URL of that kind: scheme "socks5", expected http://HOST:PORT'


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_ports_have_16_bits(port: int) -> None:
    assert server_mistake(f"https://api:{port}") == f"has port {port}, expected 1 to 65535"
