import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, LocalProtocolError, RemoteProtocolError, Setting
from frames.settings import DEFAULTS, LocalSettings, check_setting

WINDOW = Setting.INITIAL_WINDOW_SIZE


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (Setting.HEADER_TABLE_SIZE, 2**32 - 1),
        (Setting.ENABLE_PUSH, 0),
        (Setting.ENABLE_PUSH, 1),
        (Setting.MAX_CONCURRENT_STREAMS, 0),
        (Setting.INITIAL_WINDOW_SIZE, 0),
        (Setting.INITIAL_WINDOW_SIZE, 2**31 - 1),
        (Setting.MAX_FRAME_SIZE, 2**14),
        (Setting.MAX_FRAME_SIZE, 2**24 - 1),
        (Setting.ENABLE_CONNECT_PROTOCOL, 1),
        (0x7, 99),
        (0xFFFF, 2**32 - 1),
    ],
)
def test_what_section_6_5_2_allows_passes(code: int, value: int) -> None:
    check_setting(code, value)


@pytest.mark.parametrize(
    ("code", "value", "error"),
    [
        (Setting.ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
        (Setting.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (Setting.MAX_FRAME_SIZE, 2**14 - 1, ErrorCode.PROTOCOL_ERROR),
        (Setting.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
        (Setting.ENABLE_CONNECT_PROTOCOL, 2, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_section_6_5_2_forbids_has_its_error_code(
    code: int, value: int, error: ErrorCode
) -> None:
    with pytest.raises(RemoteProtocolError, match=f"is {value}, allowed") as caught:
        check_setting(code, value)
    assert caught.value.code is error


def test_a_greater_value_counts_at_once() -> None:
    local = LocalSettings()
    local.announce({WINDOW: 100_000})
    assert local.greatest(WINDOW) == 100_000


def test_a_smaller_value_counts_once_acknowledged() -> None:
    local = LocalSettings()
    local.announce({WINDOW: 10})
    assert local.greatest(WINDOW) == DEFAULTS[WINDOW]
    assert local.acknowledge()
    assert local.greatest(WINDOW) == 10


def test_smaller_then_greater_counts_as_the_greater_throughout() -> None:
    local = LocalSettings()
    local.announce({WINDOW: 10})
    local.announce({WINDOW: 200_000})
    assert local.greatest(WINDOW) == 200_000
    local.acknowledge()
    assert local.greatest(WINDOW) == 200_000
    local.acknowledge()
    assert local.greatest(WINDOW) == 200_000


def test_an_acknowledgement_of_nothing_is_told() -> None:
    assert not LocalSettings().acknowledge()


@given(st.lists(st.one_of(st.none(), st.integers(0, 1000)), max_size=20))
def test_the_peers_value_is_never_above_the_greatest(steps: list[int | None]) -> None:
    """A number is announced; None is the peer taking the oldest announcement in force."""
    local, peers, under_way = LocalSettings(), DEFAULTS[WINDOW], list[int]()
    for step in steps:
        if step is not None:
            local.announce({WINDOW: step})
            under_way.append(step)
        elif under_way:
            peers = under_way.pop(0)
            local.acknowledge()
        assert max([peers, *under_way]) == local.greatest(WINDOW)


@pytest.mark.parametrize(
    "settings",
    [
        {Setting.MAX_FRAME_SIZE: 100},
        {Setting.INITIAL_WINDOW_SIZE: 2**31},
        {Setting.ENABLE_PUSH: 0},
        {Setting.MAX_CONCURRENT_STREAMS: 10},
        {Setting.MAX_HEADER_LIST_SIZE: 10},
    ],
)
def test_settings_that_are_not_ours_to_give_are_refused(settings: dict[int, int]) -> None:
    with pytest.raises(LocalProtocolError):
        LocalSettings().check(settings)


def test_extended_connect_cannot_be_taken_back() -> None:
    local = LocalSettings()
    local.announce({Setting.ENABLE_CONNECT_PROTOCOL: 1})
    local.check({Setting.HEADER_TABLE_SIZE: 0})
    with pytest.raises(LocalProtocolError, match="taken back"):
        local.check({Setting.ENABLE_CONNECT_PROTOCOL: 0})
