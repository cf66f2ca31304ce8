import json

import pytest

from tunneld.doctor.finding import Finding, Verdict, failed, noted, passed, warned
from tunneld.doctor.report import as_json, exit_code, table

GOOD = passed("dns", "fine").of("home")
ODD = warned("clock", "not kept", "keep it").of("host")
BAD = failed("tcp", "refused\nby \x1b[2Jthem", "start it").of("home")
NOTE = noted("kernel", "Linux").of("host")


def test_the_table_has_a_line_for_each_and_an_action_for_what_is_not_well() -> None:
    assert table([GOOD, NOTE, ODD, BAD], is_terminal=False).splitlines() == [
        "VERDICT  OF    CHECK   FOUND",
        "PASS     home  dns     fine",
        "INFO     host  kernel  Linux",
        "WARN     host  clock   not kept",
        "         -> keep it",
        "FAIL     home  tcp     refused�by �[2Jthem",
        "         -> start it",
        "1 pass, 1 warn, 1 fail",
    ]


def test_a_terminal_has_colours_unless_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in table([BAD], is_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in table([BAD], is_terminal=True)


def test_each_is_an_object_that_can_be_read_back() -> None:
    value = json.loads(as_json(BAD))
    assert value.pop("version") == 1
    assert Finding.from_map(value) == BAD
    assert value["verdict"] == Verdict.FAIL


@pytest.mark.parametrize(
    ("findings", "code", "strict_code"),
    [([], 0, 0), ([GOOD, NOTE], 0, 0), ([GOOD, ODD], 0, 1), ([ODD, BAD], 1, 1)],
)
def test_the_exit_code_is_that_of_the_worst(
    findings: list[Finding], code: int, strict_code: int
) -> None:
    assert exit_code(findings, strict=False) == code
    assert exit_code(findings, strict=True) == strict_code
