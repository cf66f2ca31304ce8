"""Every target with its seeds, mutations of them, and octets that nobody made; a few, in CI.
`python -m tests.fuzz` goes on for as long as one likes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.__main__ import fuzz, main
from tests.fuzz.target import Target, cuts
from tests.fuzz.targets import TARGETS

_TRIES = 300
_SECONDS = 5.0


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_and_their_mutations_break_nothing(target: Target) -> None:
    number, findings = fuzz(target, 1, _SECONDS, _TRIES)
    assert number
    for octets in findings:
        target.run(octets)


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
def test_octets_and_tokens_in_any_order_break_nothing(name: str, draw: st.DataObject) -> None:
    target = TARGETS[name]
    known = st.sampled_from([*target.seeds, *target.tokens])
    pieces = draw.draw(st.lists(st.one_of(known, st.binary(max_size=20)), max_size=6))
    target.run(b"".join(pieces))


def test_cuts_are_of_the_same_octets_each_time() -> None:
    octets = bytes(range(200))
    assert [b"".join(parts) for parts in cuts(octets)] == [octets] * 3
    assert cuts(octets) == cuts(octets)


def test_a_finding_is_told_with_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    def run(octets: bytes) -> None:
        assert b"\xff" not in octets

    TARGETS["broken"] = Target("broken", run, [b"right"])
    try:
        assert main(["--target", "broken", "--tries", "5000"]) == 1
    finally:
        del TARGETS["broken"]
    said = capsys.readouterr().out
    assert "1 findings" in said
    assert "AssertionError" in said


def test_a_target_without_findings_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--target", "socks5", "--tries", "20"]) == 0
    assert capsys.readouterr().out == "socks5: 20 inputs, 0 findings\n"
