"""A double of an API, and a client of it without a network."""

import ssl
from collections.abc import AsyncIterator

import pytest

from tests.tunneld.kube.apidouble import ApiDouble, DirectTransport
from tunneld.kube.access import Access
from tunneld.kube.client import KubeClient


@pytest.fixture
def api() -> ApiDouble:
    return ApiDouble()


@pytest.fixture
async def client(api: ApiDouble) -> AsyncIterator[KubeClient]:
    access = Access("test", "https://api.test", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    async with KubeClient(access, qps=-1, transport=DirectTransport(api)) as client:
        yield client
