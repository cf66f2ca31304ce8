"""What the tests of the data plane share."""

from pathlib import Path

import pytest

from tunneld.pki import Pki
from tunneld.registrar import Registrar


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for a server at 127.0.0.1 and an agent ``demo``."""
    directory = tmp_path_factory.mktemp("certificates") / "pki"
    Pki(directory).init(["127.0.0.1"], "demo")
    return directory


@pytest.fixture
def registrar(tmp_path: Path) -> Registrar:
    """Certificates that a test may change."""
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "demo")
    return registrar
