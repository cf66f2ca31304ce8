"""All targets by name."""

from tests.fuzz import daemon, heads, http2, messages
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    each.name: each for each in (*http2.TARGETS, *heads.TARGETS, *messages.TARGETS, *daemon.TARGETS)
}
