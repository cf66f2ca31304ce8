import pytest
from trio.testing import memory_stream_pair

from tunneld.linereader import LineReader


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_lines_do_not_depend_on_how_octets_are_cut(size: int) -> None:
    near, far = memory_stream_pair()
    wire = b"one\n\nthr\xffee\nno newline"
    for start in range(0, len(wire), size):
        await far.send_all(wire[start : start + size])
    await far.send_eof()
    assert [line async for line in LineReader(near)] == ["one", "", r"thr\xffee", "no newline"]


async def test_a_line_without_end_comes_in_pieces() -> None:
    near, far = memory_stream_pair()
    await far.send_all(b"abcdefg\nh\n")
    await far.send_eof()
    reader = LineReader(near, max_line=5)
    lines = [line async for line in reader]
    assert "".join(lines) == "abcdefgh"
    assert all(len(line) <= 5 + len("fg") for line in lines)
