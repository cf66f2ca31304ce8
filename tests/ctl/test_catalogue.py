"""The catalogue of errors: nothing twice, nothing empty, and found by every name it goes by."""

import pytest

from ctl.catalogue import REASONS, Error, errors, find

EVERYTHING = [*errors(), *REASONS]


def test_no_code_stands_for_two_things() -> None:
    names = [name for each in EVERYTHING for name in (each.code, *each.aliases)]
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize("error", [pytest.param(each, id=each.code) for each in EVERYTHING])
def test_each_says_what_it_means_and_what_to_do(error: Error) -> None:
    assert error.meaning.endswith(".")
    assert error.where
    assert error.causes
    for cause in error.causes:
        assert cause.seen
        assert cause.action.endswith(".")


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("no_agent", ["no_agent"]),
        ("[NO_AGENT]", ["no_agent"]),
        ("connection_refused", ["refused"]),
        ("TLSV1_ALERT_UNKNOWN_CA", ["TLSV1_ALERT_UNKNOWN_CA"]),
        ("NO_SHARED_CIPHER", ["SSLV3_ALERT_HANDSHAKE_FAILURE"]),
        ("504", ["timeout", "agent_timeout"]),
        ("407", ["denied"]),
        ("3", ["no_daemon"]),
        ("0", []),
        ("", []),
        ("nonsense", []),
    ],
)
def test_an_error_is_found_by_each_of_its_names(name: str, codes: list[str]) -> None:
    assert [error.code for error in find(name)] == codes
