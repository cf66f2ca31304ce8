"""From kubeconfig files to an `Access`, and what is said about those with mistakes."""

import base64
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tunneld.configfile import ConfigError
from tunneld.kube.access import Access
from tunneld.kube.kubeconfig import load_kubeconfig

Load: TypeAlias = Callable[..., Access]
Mistakes: TypeAlias = Callable[..., list[str]]

CLUSTER = "clusters[0].cluster"
USER = "users[0].user"


def document(cluster: dict[str, Any], user: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    context = {"cluster": "home", "user": "me", "namespace": "work"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "here",
        "clusters": [{"name": "home", "cluster": {"server": "https://api:6443", **cluster}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "here", "context": context}],
        **more,
    }


@pytest.fixture
def load(tmp_path: Path, pki: Path) -> Load:
    """Loads a file with the given tables, beside certificates in ``frontend``."""
    (tmp_path / "frontend").symlink_to(pki / "frontend")

    def load(
        cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any
    ) -> Access:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(document(cluster or {}, user, **more)))
        return load_kubeconfig(path)

    return load


@pytest.fixture
def mistakes(load: Load, tmp_path: Path) -> Mistakes:
    def mistakes(*tables: Any, **more: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(*tables, **more)
        assert caught.value.source == f"{tmp_path}/config"
        return [str(each) for each in caught.value.problems]

    return mistakes


def text(pki: Path, name: str) -> str:
    return base64.b64encode((pki / "frontend" / name).read_bytes()).decode()


def test_the_current_context_chooses_among_several(load: Load) -> None:
    others = [{"name": "other", "context": {"cluster": "nowhere", "user": "nobody"}}]
    chosen = [{"name": "here", "context": {"cluster": "home", "user": "me", "namespace": "work"}}]
    access = load(user={"token": "abc"}, contexts=others + chosen)
    assert access.server == "https://api:6443"
    assert access.namespace == "work"
    assert access.authorization() == "Bearer abc"
    assert access.tls.verify_mode is ssl.CERT_REQUIRED


def test_a_user_without_anything_is_anonymous(load: Load) -> None:
    assert load(user=None).authorization() == ""
    assert load(user={}).authorization() == ""


def test_a_context_needs_no_user(load: Load) -> None:
    contexts = [{"name": "here", "context": {"cluster": "home"}}]
    assert load(contexts=contexts, users=None).authorization() == ""


def test_json_is_taken_too_even_if_indented_by_tabs(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(json.dumps(document({}, {"token": "abc"}), indent="\t"))
    assert load_kubeconfig(path).authorization() == "Bearer abc"


def test_files_are_sought_beside_the_kubeconfig(load: Load) -> None:
    access = load(
        {"certificate-authority": "frontend/ca.crt"},
        {"client-certificate": "frontend/client.crt", "client-key": "frontend/client.key"},
    )
    assert access.tls.cert_store_stats()["x509_ca"] == 1


def test_files_may_have_absolute_names(load: Load, pki: Path) -> None:
    access = load({"certificate-authority": str(pki / "frontend" / "ca.crt")})
    assert access.tls.cert_store_stats()["x509_ca"] == 1


def test_certificates_may_stand_in_the_file_and_go_before_files(load: Load, pki: Path) -> None:
    folded = "\n".join(text(pki, "ca.crt")[at : at + 60] for at in range(0, 2000, 60))
    access = load(
        {"certificate-authority-data": folded, "certificate-authority": "none"},
        {"client-certificate-data": text(pki, "client.crt"),
         "client-key-data": text(pki, "client.key")},
    )  # fmt: skip
    assert access.tls.cert_store_stats()["x509_ca"] == 1


def test_a_token_file_goes_before_a_token_and_is_read_again(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    access = load(user={"tokenFile": "token", "token": "other"})
    assert access.authorization() == "Bearer first"
    (tmp_path / "token").write_text("second")
    assert access.authorization() == "Bearer second"


def test_names_and_passwords_are_taken(load: Load) -> None:
    assert load(user={"username": "a", "password": "b"}).authorization() == "Basic YTpi"


def test_verification_can_be_switched_off(load: Load) -> None:
    access = load({"insecure-skip-tls-verify": True})
    assert access.tls.verify_mode is ssl.CERT_NONE
    assert not access.tls.check_hostname


def test_another_name_and_a_proxy_are_passed_on(load: Load) -> None:
    assert load({"tls-server-name": "kubernetes"}).server_name == "kubernetes"
    assert load({"proxy-url": "http://proxy:3128"}).proxy == "http://proxy:3128"


def test_a_prefix_loses_its_last_slash(load: Load) -> None:
    assert load({"server": "https://api/prefix/"}).server == "https://api/prefix"


def test_credentials_are_not_sent_without_tls(load: Load) -> None:
    assert load({"server": "http://api"}, {"token": "abc"}).authorization() == ""


def test_unknown_keys_and_extensions_are_ignored(load: Load) -> None:
    load({"extensions": [{"name": "x", "extension": {}}]}, {"new-key": 1}, extensions=[])


def test_names_that_lead_nowhere_are_shown_with_the_nearest(mistakes: Mistakes) -> None:
    assert mistakes(**{"current-context": "her"}) == [
        'current-context: "her" is none of the contexts, did you mean here?'
    ]
    assert mistakes(**{"current-context": ""}) == [
        "current-context: is missing, expected one of here"
    ]
    context = {"cluster": "work", "user": "me"}
    assert mistakes(contexts=[{"name": "here", "context": context}]) == [
        'contexts[0].context.cluster: "work" is none of the clusters, expected one of home'
    ]
    context = {"cluster": "home", "user": "you"}
    assert mistakes(contexts=[{"name": "here", "context": context}], users=[]) == [
        'contexts[0].context.user: "you" is none of the users, there are no users'
    ]


@pytest.mark.parametrize(
    ("key", "value", "mistake"),
    [
        ("exec", {"command": "aws"}, "credential plugins are not supported"),
        ("auth-provider", {"name": "gcp"}, "credential plugins are not supported"),
        ("as", "root", "impersonation is not supported"),
        ("as-uid", "0", "impersonation is not supported"),
        ("as-groups", ["wheel"], "impersonation is not supported"),
        ("as-user-extra", {"a": ["b"]}, "impersonation is not supported"),
    ],
)
def test_what_is_not_supported_is_refused(
    mistakes: Mistakes, key: str, value: object, mistake: str
) -> None:
    expected = "expected a client certificate, token, tokenFile or username"
    assert mistakes(None, {key: value}) == [f"{USER}.{key}: {mistake}, {expected}"]


def test_plugins_of_other_users_do_not_matter(load: Load) -> None:
    users = [{"name": "aws", "user": {"exec": {}}}, {"name": "me", "user": {"token": "abc"}}]
    assert load(users=users).authorization() == "Bearer abc"


def test_all_mistakes_are_reported_at_once(mistakes: Mistakes, tmp_path: Path) -> None:
    missing = "cannot be read: {}: No such file or directory"
    cluster = {"server": "api", "certificate-authority": "no-ca", "proxy-url": "socks5://p"}
    user = {"tokenFile": "no-token", "client-certificate": "frontend/client.crt", "username": "a"}
    assert mistakes(cluster, user) == [
        f'{CLUSTER}.server: is no URL of that kind: scheme "", expected https://HOST:PORT',
        f'{CLUSTER}.proxy-url: is no URL of that kind: scheme "socks5", expected http://HOST:PORT',
        f"{USER}: has both a token and a username, expected one of them",
        f"{USER}.tokenFile: {missing.format(tmp_path / 'no-token')}",
        f"{CLUSTER}.certificate-authority: {missing.format(tmp_path / 'no-ca')}",
        f"{USER}.client-key: is missing, there is a client-certificate",
    ]


def test_material_that_is_not_right_is_refused(mistakes: Mistakes, pki: Path) -> None:
    assert mistakes({"certificate-authority-data": "%%%"}) == [
        f"{CLUSTER}.certificate-authority-data: is not base64"
    ]
    assert mistakes({"certificate-authority-data": "AAAA"}) == [
        f"{CLUSTER}.certificate-authority: holds no certificates, expected PEM"
    ]
    pair = {"client-certificate": "frontend/client.crt", "client-key": "frontend/server.key"}
    [mistake] = mistakes(None, pair)
    assert mistake.startswith(f"{USER}.client-certificate: ")
    assert mistake.endswith("expected PEM that belongs together")
    assert mistakes(None, {"client-key-data": text(pki, "client.key")}) == [
        f"{USER}.client-certificate: is missing, there is a client-key"
    ]
    assert mistakes(None, {"token": "a b"}) == [
        f"{USER}.token: has characters that no token has, expected printable ASCII"
    ]


def test_combinations_that_make_no_sense_are_refused(mistakes: Mistakes) -> None:
    authority = {"certificate-authority": "frontend/ca.crt"}
    [mistake] = mistakes({**authority, "insecure-skip-tls-verify": True})
    assert mistake == (
        f"{CLUSTER}.insecure-skip-tls-verify: is not allowed along with certificate-authority, "
        "expected one of them"
    )
    assert mistakes({"proxy-url": "http://proxy", "tls-server-name": "kubernetes"}) == [
        f"{CLUSTER}.tls-server-name: is not supported along with proxy-url"
    ]
    assert mistakes({"server": ""}) == [f"{CLUSTER}.server: is missing, expected https://HOST:PORT"]
