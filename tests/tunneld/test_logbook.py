import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.logbook import MAX_FIELDS, MAX_TEXT, LogBook, LogRecord, RoleLog, record


def line(number: int) -> LogRecord:
    return record(float(number), "info", f"event {number}", [])


def events(log: RoleLog, cursor: int) -> tuple[list[str], int]:
    lines, lost = log.read(cursor)
    return [each.event for each in lines], lost


def test_the_last_lines_are_kept() -> None:
    log = RoleLog(size=3)
    for number in range(5):
        log.add(line(number))
    assert events(log, log.cursor(2)) == (["event 3", "event 4"], 0)
    assert events(log, log.cursor(99)) == (["event 2", "event 3", "event 4"], 0)


def test_a_reader_that_lags_learns_how_many_lines_it_lost() -> None:
    log = RoleLog(size=3)
    log.add(line(0))
    for number in range(1, 6):
        log.add(line(number))
    assert events(log, 1) == (["event 3", "event 4", "event 5"], 2)


async def test_a_follower_wakes_for_each_new_line() -> None:
    log = RoleLog()
    seen: list[str] = []

    async def follow() -> None:
        cursor = 0
        while len(seen) < 3:
            assert await log.wait_beyond(cursor)
            lines, _ = log.read(cursor)
            seen.extend(each.event for each in lines)
            cursor += len(lines)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        log.add(line(0))
        await wait_all_tasks_blocked()
        assert seen == ["event 0"]
        log.add(line(1))
        log.add(line(2))
    assert seen == ["event 0", "event 1", "event 2"]


async def test_who_follows_a_role_that_goes_comes_to_an_end() -> None:
    book = LogBook()
    log = book.of("edge")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.wait_beyond, 0)
        await wait_all_tasks_blocked()
        book.forget("edge")
    assert not await log.wait_beyond(0)


def test_lines_of_a_role_that_is_no_more_are_dropped() -> None:
    book = LogBook()
    book.of("edge")
    book.add("edge", line(0))
    book.forget("edge")
    book.add("edge", line(1))
    assert events(book.of("edge"), 0) == ([], 0)


def test_a_record_is_bounded_and_plain() -> None:
    fields = [("big", 1 << 70), ("text", "x" * 9000), ("none", None), ("at", 1.5)]
    fields += [(f"f{number}", [number]) for number in range(99)]
    kept = record(1.0, "info", "e" * 9000, fields).to_map()
    assert len(kept["event"]) == len(kept["fields"]["text"]) == MAX_TEXT
    assert kept["fields"]["big"] == str(1 << 70)
    assert kept["fields"]["none"] is None
    assert kept["fields"]["at"] == 1.5
    assert kept["fields"]["f0"] == "[0]"
    assert len(kept["fields"]) == MAX_FIELDS
