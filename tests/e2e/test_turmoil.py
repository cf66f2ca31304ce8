"""A bit of turmoil in the lab; `python -m tests.e2e.turmoil --minutes 15` is the long form."""

import json

import pytest

from tests.conftest import need
from tests.e2e.conftest import Lab
from tests.e2e.turmoil.faults import FAULTS
from tests.e2e.turmoil.report import render, to_map
from tests.e2e.turmoil.trial import run

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(400)]

CONNECTIONS = 60
PLAYED = (
    "kill -9 of the server",
    "NAT state flush",
    "kill -9 of an agent",
    "server out of descriptors",
    "tunnelctl kill conn",
    "link down, beyond keepalive",
)


def test_no_octet_is_wrong_and_no_cut_stream_looks_complete(lab: Lab) -> None:
    need(lab, "a lab can be built at all")
    by_name = {fault.name: fault for fault in FAULTS}
    faults = [by_name[name] for name in PLAYED]
    said: list[str] = []
    result = run(300, 7, CONNECTIONS, iter(faults), said.append)
    assert result.violations == [], "\n".join(said)
    assert [event.fault for event in result.events] == list(PLAYED)
    assert result.outcomes["complete"] > CONNECTIONS
    assert result.octets > 10**6
    assert "No violations." in render(result)
    assert json.loads(json.dumps(to_map(result)))["octets"] == result.octets
