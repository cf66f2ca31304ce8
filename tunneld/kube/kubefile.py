"""What a kubeconfig file holds, as kubectl writes it: YAML or JSON.

Keys that client-go does not know are ignored, as it does; null stands for what is not there.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tunneld.configfile import ConfigError
from tunneld.kube.extra import require
from tunneld.schema import Problem, shown

_ODD_KEYS = {"token_file": "tokenFile", "api_version": "apiVersion"}


def key_of(field: str) -> str:
    """The key in the file of a field of the structs below."""
    return _ODD_KEYS.get(field, field.rstrip("_").replace("_", "-"))


class Cluster(Struct, frozen=True, rename=key_of):
    """Where an API is; each ``…_data`` is base64 of PEM and goes before the file."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class User(Struct, frozen=True, rename=key_of):
    """Who asks. The keys of type `Any` are those that are refused."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    exec_: Any = None
    auth_provider: Any = None
    as_: Any = None
    as_uid: Any = None
    as_groups: Any = None
    as_user_extra: Any = None


class Context(Struct, frozen=True, rename=key_of):
    """Names of a cluster and a user."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""


class NamedCluster(Struct, frozen=True):
    name: str
    cluster: Cluster = Cluster()


class NamedUser(Struct, frozen=True):
    name: str
    user: User = User()


class NamedContext(Struct, frozen=True):
    name: str
    context: Context = Context()


class Kubeconfig(Struct, frozen=True, rename=key_of):
    """A whole file."""

    api_version: str = "v1"
    kind: str = "Config"
    current_context: str = ""
    clusters: tuple[NamedCluster, ...] = ()
    users: tuple[NamedUser, ...] = ()
    contexts: tuple[NamedContext, ...] = ()


def read_kubeconfig(path: Path) -> Kubeconfig:
    """What ``path`` holds.

    Raises:
      ConfigError: it cannot be read, or is no kubeconfig file; no text quotes a value of it.
    """
    return _typed(_read(path), str(path))


def _read(path: Path) -> object:
    try:
        text = path.read_text("utf-8")
    except OSError as exc:
        raise _error(path, f"cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        what = f"is not UTF-8 text: octet {exc.object[exc.start]:#04x} at offset {exc.start}"
        raise _error(path, what) from exc
    if text.lstrip().startswith("{"):  # JSON may be indented by tabs, YAML may not
        return _read_json(path, text)
    return _read_yaml(path, text)


def _read_json(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _error(path, f"is not JSON: {exc}") from exc


def _read_yaml(path: Path, text: str) -> object:
    require("yaml", str(path))
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:  # its own text quotes the file, which has secrets
        mark = exc.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        syntax = isinstance(exc, yaml.scanner.ScannerError | yaml.parser.ParserError)
        what = f": {exc.problem}" if syntax else ""
        raise _error(path, f"is not YAML{where}{what}") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise _error(path, "is not YAML") from exc


def _error(path: Path, message: str) -> ConfigError:
    return ConfigError(str(path), [Problem("", message)])


def _typed(document: object, source: str) -> Kubeconfig:
    try:
        config = msgspec.convert(_without_nulls(document), Kubeconfig)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).replace("`", "").partition(" - at $")
        problem = Problem(where.removeprefix("."), f"{what[:1].lower()}{what[1:]}")
        raise ConfigError(source, [problem]) from exc
    if (config.api_version, config.kind) != ("v1", "Config"):
        seen = f"apiVersion {shown(config.api_version)} and kind {shown(config.kind)}"
        raise ConfigError(source, [Problem("", f'has {seen}, expected "v1" and "Config"')])
    return config


def _without_nulls(value: object) -> object:
    """client-go, and so kubectl, takes null for what is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
