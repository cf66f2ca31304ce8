"""That the long run would find what it looks for."""

import json
import struct
from collections import Counter

import pytest

from tests.e2e.turmoil.records import TO_CLIENT, TO_ENDPOINT, Receiver, Sender, WrongOctetsError
from tests.e2e.turmoil.report import percentiles, render, to_map
from tests.e2e.turmoil.trial import Event, Result


def spoken() -> tuple[list[bytes], Receiver]:
    """The records of a connection, and who checks them."""
    sender = Sender(7, TO_ENDPOINT)
    records = [sender.hello({"mode": "up"}), *(sender.data(size) for size in (100, 0, 3000))]
    return [*records, sender.end()], Receiver(None, TO_ENDPOINT)


def test_what_was_sent_is_right_however_it_is_cut() -> None:
    records, receiver = spoken()
    octets = b"".join(records)
    kinds = []
    for start in range(0, len(octets), 13):
        kinds += [record.kind for record in receiver.feed(octets[start : start + 13])]
    assert kinds == [b"H", b"R", b"R", b"R", b"E"]
    assert receiver.complete
    assert receiver.octets == len(octets)


def test_without_its_end_a_stream_is_not_complete() -> None:
    records, receiver = spoken()
    receiver.feed(b"".join(records[:-1]))
    assert not receiver.complete


@pytest.mark.parametrize("position", [0, 50, 90, -1])
def test_one_wrong_octet_is_found(position: int) -> None:
    records, receiver = spoken()
    octets = bytearray(b"".join(records))
    octets[position] ^= 1
    with pytest.raises(WrongOctetsError, match="way 0"):
        receiver.feed(bytes(octets))


def test_a_wrong_octet_in_a_record_that_was_cut_off_is_found() -> None:
    records, receiver = spoken()
    octets = bytearray(b"".join(records[:2])[:-10])
    receiver.feed(bytes(octets))
    receiver.check_rest()
    records, receiver = spoken()
    octets[-1] ^= 1
    receiver.feed(bytes(octets))
    with pytest.raises(WrongOctetsError, match="cut off"):
        receiver.check_rest()


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_lost_record_is_found(missing: int) -> None:
    records, receiver = spoken()
    del records[missing]
    with pytest.raises(WrongOctetsError, match="due"):
        receiver.feed(b"".join(records))


def test_octets_of_another_connection_or_the_other_way_are_found() -> None:
    for other in (Sender(8, TO_ENDPOINT), Sender(7, TO_CLIENT)):
        records, receiver = spoken()
        receiver.feed(records[0])
        other.hello({"mode": "up"})
        with pytest.raises(WrongOctetsError, match="header"):
            receiver.feed(other.data(10))


def test_octets_behind_the_end_and_another_digest_are_found() -> None:
    records, receiver = spoken()
    with pytest.raises(WrongOctetsError, match="behind the end"):
        receiver.feed(b"".join(records) + b"x")
    records, receiver = spoken()
    records[-1] = records[-1][:-32] + struct.pack("32x")
    with pytest.raises(WrongOctetsError, match="SHA-256"):
        receiver.feed(b"".join(records))


def test_a_result_is_told_as_json_too() -> None:
    result = Result(seed=1, slots=2, outcomes=Counter(complete=3))
    result.events.append(Event("link down", "1 s", at=0.5, reasons=Counter({"503": 2})))
    told = json.loads(json.dumps(to_map(result)))
    assert told["outcomes"] == {"complete": 3}
    assert told["events"][0]["reasons"] == {"503": 2}
    assert "| link down | 1 |" in render(result)


def test_percentiles_are_of_what_was_seen() -> None:
    assert percentiles(float(number) for number in range(100)) == "49.00 / 89.00 / 98.00 / 99.00"
    assert percentiles([]) == "-"
