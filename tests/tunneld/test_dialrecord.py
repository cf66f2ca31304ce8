import json

import pytest

from tunneld.caller import CONTROL, Caller
from tunneld.dialing import NO_AGENT, DialError
from tunneld.dialquestions import Last, tell_last
from tunneld.dialrecord import (
    KEPT,
    DialRecord,
    DialRecords,
    read_steps,
    usable_id,
    write_steps,
)


def failed(number: int) -> DialRecord:
    record = DialRecord(CONTROL, f"a:{number}")
    record.failed(DialError(NO_AGENT, "nobody"))
    return record


def test_each_dial_has_an_id_of_its_own() -> None:
    ids = {DialRecord(CONTROL, "a:1").id for _ in range(100)}
    assert len(ids) == 100
    assert all(usable_id(each) == each for each in ids)


@pytest.mark.parametrize("text", ["", "a" * 33, "a b", "A", 'a"', "a\n", "ä"])
def test_an_id_that_spoils_the_log_is_not_taken_over(text: str) -> None:
    assert usable_id(text) == ""


def test_steps_are_in_order_and_begin_with_who_asks() -> None:
    record = DialRecord(Caller("cert:alice", "1.2.3.4:5"), "db:5432")
    record.entry = "SOCKS5"
    record.step("policy", "{} and {}", "this", "that")
    record.step("odd", "{braces} stay")
    steps = record.steps()
    assert [(name, text) for _, name, text in steps] == [
        ("entry", "cert:alice from 1.2.3.4:5 by SOCKS5"),
        ("policy", "this and that"),
        ("odd", "{braces} stay"),
    ]
    assert [ms for ms, _, _ in steps] == sorted(ms for ms, _, _ in steps)


def test_a_failed_dial_tells_code_and_text() -> None:
    told = failed(1).to_map()
    assert (told["code"], told["error"]) == ("no_agent", "nobody")
    assert told["steps"][-1]["text"] == "no_agent: nobody"


def test_steps_travel_within_a_limit() -> None:
    record = DialRecord(CONTROL, "a:1")
    for number in range(50):
        record.step("connect", "attempt {} ü", number)
    text = write_steps(record, 1000)
    assert len(text) <= 1000
    assert text.isascii()
    steps = read_steps(text)
    assert 5 < len(steps) < 51
    assert steps[1][1:] == ("connect", "attempt 0 ü")


@pytest.mark.parametrize(
    "text",
    ["", "{}x", "[[1]]", '[["a","b","c"]]', "[1]", "[" * 100_000, f'[[{"9" * 400},"",""]]'],
)
def test_steps_that_cannot_be_read_are_one_that_says_so(text: str) -> None:
    assert read_steps(text) == [(0.0, "trace", "the agent sent steps that cannot be read")]


def test_steps_of_a_hostile_agent_are_cut() -> None:
    [(_, name, words)] = read_steps(json.dumps([[1, "n" * 100, "w" * 5000]]))
    assert (len(name), len(words)) == (40, 1000)


def test_steps_of_a_hostile_agent_can_be_sent_on() -> None:
    """JSON may hold half a pair of surrogates, UTF-8 may not."""
    assert read_steps(r'[[1, "\ud800", "\udfff!"]]') == [(1.0, "?", "?!")]


def test_the_last_failed_dials_are_kept() -> None:
    records = DialRecords()
    dials = [failed(number) for number in range(KEPT + 5)]
    for each in dials:
        records.keep(each)
    assert len(records.latest()) == KEPT
    assert records.latest()[0] is dials[-1]
    assert records.find(dials[0].id) is None
    told = tell_last(records, Last(limit=3))["dials"]
    assert [each["dial"] for each in told] == [each.id for each in dials[:-4:-1]]
    [one] = tell_last(records, Last(dial=dials[-1].id))["dials"]
    assert one["destination"] == dials[-1].destination
    assert tell_last(records, Last(dial="x")) == {"dials": []}


def test_little_is_kept_of_an_endless_reason() -> None:
    record = DialRecord(CONTROL, "a:1")
    record.failed(DialError(NO_AGENT, "x" * 4_000_000))
    assert len(str(record.to_map())) < 6_000
