"""SIGKILL at random moments; `python -m tests.e2e.chaos 100` is the long form."""

import pytest

from tests.conftest import need
from tests.e2e import chaos
from tests.e2e.conftest import Lab

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_one_ns_down_removes_what_a_kill_left(lab: Lab) -> None:
    need(lab, "a lab can be built at all")
    assert chaos.run(6, seed=7) == []
