"""What a pod knows of its cluster's API: two variables, and files of its service account."""

import os
from collections.abc import Mapping
from pathlib import Path

from tunneld.configfile import ConfigError
from tunneld.dialing import join_authority
from tunneld.kube.access import Access, Authorization, TokenFile, no_authorization
from tunneld.kube.address import server_mistake
from tunneld.kube.tls import client_context, trust
from tunneld.schema import Problem, shown

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SOURCE = "in-cluster configuration"
HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


def in_cluster(
    environ: Mapping[str, str] = os.environ, directory: Path = SERVICE_ACCOUNT
) -> Access:
    """The API of the cluster that this pod is in, with the pod's service account.

    Args:
      directory: holds ``token``, ``ca.crt`` and ``namespace``.
    Raises:
      ConfigError: this is no pod, or it has no service account's token.
    """
    problems: list[Problem] = []
    server = _server(environ, problems)
    context = client_context()
    try:
        trust(context, (directory / "ca.crt").read_bytes())
    except (OSError, ValueError) as exc:
        problems.append(_problem(directory / "ca.crt", exc))
    authorization = _authorization(directory / "token", problems)
    if problems:
        raise ConfigError(SOURCE, problems)
    return Access(
        source=SOURCE,
        server=server,
        tls=context,
        authorization=authorization,
        namespace=_namespace(directory / "namespace"),
    )


def _server(environ: Mapping[str, str], problems: list[Problem]) -> str:
    host, port = environ.get(HOST, ""), environ.get(PORT, "")
    for name, value in ((HOST, host), (PORT, port)):
        if not value:
            hint = "is not set: outside a pod, name a kubeconfig file with --kubeconfig"
            problems.append(Problem(name, hint))
    if not host or not port:
        return ""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        problems.append(Problem(PORT, f"is {shown(port)}, expected a port number"))
        return ""
    server = f"https://{join_authority(host, int(port))}"
    if mistake := server_mistake(server):
        problems.append(Problem(HOST, mistake))
    return server


def _authorization(path: Path, problems: list[Problem]) -> Authorization:
    try:
        return TokenFile(path)
    except (OSError, ValueError) as exc:
        problems.append(_problem(path, exc))
        return no_authorization


def _namespace(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""  # nothing here depends on it


def _problem(path: Path, exc: OSError | ValueError) -> Problem:
    if isinstance(exc, OSError):
        return Problem(str(path), f"cannot be read: {exc.strerror}")
    return Problem(str(path), str(exc))
