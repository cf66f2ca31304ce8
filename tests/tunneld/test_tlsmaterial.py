"""TLS contexts that follow their files."""

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tunneld.pki import Side
from tunneld.registrar import Registrar
from tunneld.role import RoleError
from tunneld.tlsmaterial import ClientSource, ServerSource, TlsMaterial


@pytest.fixture
def registrar(tmp_path: Path) -> Registrar:
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "demo")
    return registrar


def source(registrar: Registrar, *, lists: bool = False) -> ServerSource:
    directory = registrar.directory / "agent"
    cert, key, ca, crl = (
        str(directory / name) for name in ("server.crt", "server.key", "ca.crt", "ca.crl")
    )
    return ServerSource(cert=cert, key=key, ca=ca, crl=(crl,) if lists else (), alpn=("h2",))


def test_files_that_stay_make_nothing_new(registrar: Registrar) -> None:
    material = TlsMaterial(source(registrar))
    assert material.prepare(source(registrar)) is None


def test_what_was_prepared_is_used_once_it_is_taken(registrar: Registrar) -> None:
    material = TlsMaterial(source(registrar))
    before = material.context
    registrar.renew(["agent/server"])
    loaded = material.prepare(source(registrar))
    assert loaded is not None
    assert material.context is before
    uses = [use for use, _, _ in material.changes(loaded)]
    assert uses == ["cert", "key"]
    material.take(loaded)
    assert material.context is loaded.context
    assert material.prepare(source(registrar)) is None


def test_another_setting_makes_another_context_of_the_same_files(registrar: Registrar) -> None:
    material = TlsMaterial(source(registrar))
    loaded = material.prepare(replace(source(registrar), min_version="1.3"))
    assert loaded is not None
    assert material.changes(loaded) == []


def test_what_changes_is_said_without_the_key(registrar: Registrar) -> None:
    material = TlsMaterial(source(registrar))
    key = registrar.key_path(Side.AGENT, "server")
    registrar.renew(["agent/server"])
    loaded = material.prepare(source(registrar))
    assert loaded is not None
    shown = {use: (old, new) for use, old, new in material.changes(loaded)}
    assert all(text.startswith("'server' serial ") for text in shown["cert"])
    assert shown["cert"][0] != shown["cert"][1]
    secret = key.read_text().splitlines()[1]
    assert not any(secret[:16] in text for text in shown["key"])
    assert all(text.startswith("sha256 ") for text in shown["key"])


def test_a_file_that_is_not_there_is_an_error_each_time(registrar: Registrar) -> None:
    material = TlsMaterial(source(registrar))
    registrar.certificate_path(Side.AGENT, "ca").unlink()
    for _ in range(2):
        with pytest.raises(RoleError, match="cannot use CA certificates"):
            material.prepare(source(registrar))


def test_a_ca_without_a_list_is_warned_of(registrar: Registrar) -> None:
    registrar.refresh_lists()
    with capture_logs() as lines:
        material = TlsMaterial(source(registrar, lists=True))
    assert lines == []
    registrar.list_path(Side.AGENT).rename(registrar.directory / "kept")
    registrar.add_authority(Side.AGENT)
    (registrar.directory / "kept").rename(registrar.list_path(Side.AGENT))
    loaded = material.prepare(source(registrar, lists=True))
    assert loaded is not None
    with capture_logs() as lines:
        material.take(loaded)
    assert [line["ca"] for line in lines] == ["tunneld agent CA G2"]


def test_facts_name_what_is_in_use(registrar: Registrar) -> None:
    registrar.revoke("agent/agent")
    registrar.add_authority(Side.AGENT)
    material = TlsMaterial(source(registrar, lists=True))
    found = [(fact.use, fact.subject, fact.revoked) for fact in material.loaded.facts]
    assert found == [
        ("cert", "server", 0),
        ("ca", "tunneld agent CA G2", 0),
        ("ca", "tunneld agent CA", 0),
        ("crl", "tunneld agent CA G2", 0),
        ("crl", "tunneld agent CA", 1),
    ]


def test_a_dialler_without_files_of_its_own_has_none_to_follow() -> None:
    material = TlsMaterial(ClientSource(cert="", key="", ca="", alpn=("h2",)))
    assert material.loaded.facts == ()
    assert material.prepare(ClientSource(cert="", key="", ca="", alpn=("h2",))) is None
