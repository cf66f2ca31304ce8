"""Every attack against real processes: the attacker is cut off, honest clients are served
meanwhile, and nothing is left behind. How much each costs is printed by `tests.attacks.measure`."""

from collections.abc import Iterator

import pytest

from tests.attacks.catalogue import ATTACKS, Attack, carry_out
from tests.attacks.crowds import descriptors
from tests.attacks.world import World, open_world
from tests.conftest import need

pytestmark = pytest.mark.e2e

MOST_MEMORY = 150.0
"""MB: a few times what any attack takes. Without bounds many would take gigabytes."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    descriptors()
    with open_world(tmp_path_factory.mktemp("attacks")) as opened:
        yield opened


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.who}: {attack.name}")
def test_the_attacker_is_cut_off_and_others_are_served(world: World, attack: Attack) -> None:
    need(descriptors() >= attack.needs, f"{attack.needs} file descriptors (ulimit -n)")
    result = carry_out(world, attack)
    assert result.dials
    assert not result.failures
    assert not result.leaked
    assert result.cost.memory < MOST_MEMORY
    assert world.server.alive
    assert world.agent.alive
    for victim in (world.server, world.agent):
        assert "Traceback" not in victim.log()
