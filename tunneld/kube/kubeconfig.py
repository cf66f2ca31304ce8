"""From the current context of a kubeconfig file to an `Access`, or to all mistakes on the way.

Of what client-go knows these are refused, rather than silently left out: credential plugins
(``exec``, ``auth-provider``), impersonation (``as`` …) and SOCKS proxies. No message quotes a
credential.
"""

import base64
import ssl
from pathlib import Path
from typing import TypeVar

import structlog

from tunneld.configfile import ConfigError
from tunneld.kube.access import (
    Access,
    Authorization,
    BasicCredentials,
    BearerToken,
    TokenFile,
    check_token,
    no_authorization,
)
from tunneld.kube.address import proxy_mistake, server_mistake
from tunneld.kube.kubefile import (
    Cluster,
    Context,
    Kubeconfig,
    NamedCluster,
    NamedContext,
    NamedUser,
    User,
    key_of,
    read_kubeconfig,
)
from tunneld.kube.tls import client_context, show, trust
from tunneld.schema import Problem, did_you_mean, shown

log = structlog.get_logger(__name__)

_Named = TypeVar("_Named", NamedCluster, NamedUser, NamedContext)

_PLUGINS = {
    "exec_": "credential plugins are not supported",
    "auth_provider": "credential plugins are not supported",
    "as_": "impersonation is not supported",
    "as_uid": "impersonation is not supported",
    "as_groups": "impersonation is not supported",
    "as_user_extra": "impersonation is not supported",
}


def load_kubeconfig(path: Path) -> Access:
    """What the current context of ``path`` says; relative file names in it start at its directory.

    Raises:
      ConfigError: it cannot be read, has mistakes, or asks for what is not supported.
    """
    return _Resolver(path, read_kubeconfig(path)).access()


class _Resolver:
    """Goes from the current context to files and credentials, and collects the mistakes."""

    def __init__(self, path: Path, config: Kubeconfig) -> None:
        self._source = str(path)
        self._base = path.absolute().parent
        self._config = config
        self._problems: list[Problem] = []

    def access(self) -> Access:
        at, named = self._pick(
            "contexts", self._config.contexts, self._config.current_context, "current-context"
        )
        context = named.context
        at = f"{at}.context"
        cluster_at, cluster = self._pick(
            "clusters", self._config.clusters, context.cluster, f"{at}.cluster"
        )
        user_at, user = "", NamedUser("")
        if context.user:
            user_at, user = self._pick("users", self._config.users, context.user, f"{at}.user")
        access = self._access(
            f"{cluster_at}.cluster", cluster.cluster, f"{user_at}.user", user.user, context
        )
        self._raise_if_mistaken()
        return access

    def _pick(
        self, key: str, entries: tuple[_Named, ...], name: str, wanted_at: str
    ) -> tuple[str, _Named]:
        """The path of the first entry of that name, and the entry."""
        for index, entry in enumerate(entries):
            if entry.name == name:
                return f"{key}[{index}]", entry
        names = [entry.name for entry in entries]
        expected = did_you_mean(name, names) if names else f", there are no {key}"
        seen = f"{shown(name)} is none of the {key}" if name else "is missing"
        self._problem(wanted_at, f"{seen}{expected}")
        raise ConfigError(self._source, self._problems)

    def _access(
        self, cluster_at: str, cluster: Cluster, user_at: str, user: User, context: Context
    ) -> Access:
        self._check_address(cluster_at, cluster)
        self._check_user(user_at, user)
        authorization = self._authorization(user_at, user)
        if cluster.server.startswith("http://") and authorization is not no_authorization:
            log.warning("API is not https, so it gets no credentials", server=cluster.server)
            authorization = no_authorization
        return Access(
            source=self._source,
            server=cluster.server.rstrip("/"),
            tls=self._tls(cluster_at, cluster, user_at, user),
            server_name=cluster.tls_server_name,
            proxy=cluster.proxy_url,
            authorization=authorization,
            namespace=context.namespace,
        )

    def _check_address(self, at: str, cluster: Cluster) -> None:
        self._problem(f"{at}.server", server_mistake(cluster.server))
        if cluster.proxy_url:
            self._problem(f"{at}.proxy-url", proxy_mistake(cluster.proxy_url))
            if cluster.tls_server_name:
                self._problem(f"{at}.tls-server-name", "is not supported along with proxy-url")

    def _check_user(self, at: str, user: User) -> None:
        for field, mistake in _PLUGINS.items():
            if getattr(user, field) is not None:
                expected = "expected a client certificate, token, tokenFile or username"
                self._problem(f"{at}.{key_of(field)}", f"{mistake}, {expected}")
        if user.username and (user.token or user.token_file):
            self._problem(at, "has both a token and a username, expected one of them")

    def _authorization(self, at: str, user: User) -> Authorization:
        try:
            if user.token_file:
                at = f"{at}.tokenFile"
                return TokenFile(self._base / user.token_file)
            if user.token:
                at = f"{at}.token"
                return BearerToken(check_token(user.token))
        except OSError as exc:
            self._problem(at, f"cannot be read: {exc.filename}: {exc.strerror}")
        except ValueError as exc:
            self._problem(at, str(exc))
        if user.username:
            return BasicCredentials(user.username, user.password)
        return no_authorization

    def _tls(self, cluster_at: str, cluster: Cluster, user_at: str, user: User) -> ssl.SSLContext:
        context = client_context()
        self._trust(context, cluster_at, cluster)
        self._show(context, user_at, user)
        return context

    def _trust(self, context: ssl.SSLContext, at: str, cluster: Cluster) -> None:
        authorities = self._material(
            f"{at}.certificate-authority",
            cluster.certificate_authority,
            cluster.certificate_authority_data,
        )
        if cluster.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if authorities:
                mistake = "is not allowed along with certificate-authority, expected one of them"
                self._problem(f"{at}.insecure-skip-tls-verify", mistake)
        elif authorities is None:
            context.load_default_certs()
        else:
            try:
                trust(context, authorities)
            except ValueError as exc:
                self._problem(f"{at}.certificate-authority", str(exc))

    def _show(self, context: ssl.SSLContext, at: str, user: User) -> None:
        certificate = self._material(
            f"{at}.client-certificate", user.client_certificate, user.client_certificate_data
        )
        key = self._material(f"{at}.client-key", user.client_key, user.client_key_data)
        if certificate and key:
            try:
                show(context, certificate, key)
            except ValueError as exc:
                self._problem(f"{at}.client-certificate", str(exc))
        elif certificate or key:
            there, missing = ("certificate", "key") if certificate else ("key", "certificate")
            self._problem(f"{at}.client-{missing}", f"is missing, there is a client-{there}")

    def _material(self, at: str, name: str, data: str) -> bytes | None:
        """PEM from a file, or base64 of it that stands in the kubeconfig and goes first."""
        try:
            if data:
                return base64.b64decode("".join(data.split()), validate=True)
            return (self._base / name).read_bytes() if name else None
        except ValueError:
            self._problem(f"{at}-data", "is not base64")
        except OSError as exc:
            self._problem(at, f"cannot be read: {exc.filename}: {exc.strerror}")
        return None

    def _problem(self, at: str, message: str) -> None:
        """Note a mistake, if there is one."""
        if message:
            self._problems.append(Problem(at, message))

    def _raise_if_mistaken(self) -> None:
        if self._problems:
            raise ConfigError(self._source, self._problems)
