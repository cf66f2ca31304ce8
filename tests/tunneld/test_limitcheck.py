"""Mistakes in tables of limits."""

from typing import Any

import msgspec
import pytest

from tunneld.config import AgentLimits, Limits
from tunneld.limitcheck import limit_problems

AT = "role[0].limits"


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"client-rate": 5, "client-burst": 50, "agent-burst": 0},
        {"for": [{"client": ["cert:*", "anonymous"], "rate": 1, "burst": 2}]},
        {"client-rate": 5, "for": [{"client": ["*"], "burst": 2}]},
    ],
)
def test_sound_limits_have_none(limits: dict[str, Any]) -> None:
    assert not [*limit_problems(msgspec.convert(limits, Limits), AT)]


@pytest.mark.parametrize(
    ("limits", "path", "text"),
    [
        ({"client-burst": 5}, f"{AT}.client-burst", "is of no use without client-rate"),
        ({"agent-burst": 5}, f"{AT}.agent-burst", "is of no use without agent-rate"),
        ({"for": [{"client": ["*"], "burst": 5}]}, f"{AT}.for[0].burst", "without rate"),
        ({"for": [{"client": ["alice"]}]}, f"{AT}.for[0].client", "says not how that is proved"),
    ],
)
def test_each_mistake_is_told_with_its_place(limits: dict[str, Any], path: str, text: str) -> None:
    (problem,) = limit_problems(msgspec.convert(limits, Limits), AT)
    assert problem.path == path
    assert text in problem.message


def test_an_agents_limits_are_looked_at_too() -> None:
    (problem,) = limit_problems(AgentLimits(burst=5), AT)
    assert problem.path == f"{AT}.burst"


@pytest.mark.parametrize("limits", [{"client-rate": -1}, {"connections": -1}, {"for": [{}]}])
def test_what_types_tell_is_told_by_them(limits: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(limits, Limits)
