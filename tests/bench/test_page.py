from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.page import PAGE, parts_of, replaced
from bench.records import Record, read_record, write_record
from tests.bench.factories import rounds

FACTS = {
    "date": "2026-01-02",
    "commit": "0123456789",
    "processors": "2 x Some",
    "memory_gib": 4,
    "kernel": "Linux 6.1",
    "congestion": "cubic",
    "python": "3.11.2",
    "trio": "0.35",
    "openssl": "OpenSSL 3",
    "targets": {"ours": ["0123456789", "mutual TLS; mutual TLS"]},
    "absent": {"frp": "no Go"},
    "seconds": 2,
    "elsewhere": 0.1,
}


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = "a\n<!-- bench: x -->\nold\n<!-- /bench -->\nb\n<!-- bench: y -->\n<!-- /bench -->\n"
    assert replaced(page, {"x": r"new \1"}) == (
        "a\n<!-- bench: x -->\n\nnew \\1\n\n<!-- /bench -->\nb\n"
        "<!-- bench: y -->\n<!-- /bench -->\n"
    )


def test_replacing_twice_is_replacing_once() -> None:
    page = "<!-- bench: x -->\n<!-- /bench -->\n"
    once = replaced(page, {"x": "new"})
    assert replaced(once, {"x": "new"}) == once


def test_section_without_marks_is_an_error() -> None:
    with pytest.raises(BenchError, match="no marks for 'x'"):
        replaced("nothing", {"x": "new"})


@pytest.mark.parametrize("kind", ["startup", "profile"])
def test_page_has_marks_for_texts(kind: str) -> None:
    sections, _ = parts_of(Record(kind, FACTS, "| a table |"))
    assert "| a table |" in replaced(PAGE.read_text(), sections)


def test_page_has_marks_for_growth() -> None:
    sections, plots = parts_of(Record("growth", FACTS, {"connections": [], "agents": []}))
    assert replaced(PAGE.read_text(), sections)
    assert not plots


def test_page_has_marks_for_results_and_shows_their_plots() -> None:
    body = [
        {"round": 0, "target": each.target, "run": each.run, "values": each.values, "error": ""}
        for each in (*rounds("ours", 3), *rounds("ssh", 2))
    ]
    sections, plots = parts_of(Record("peers", FACTS, body))
    page = replaced(PAGE.read_text(), sections)
    assert "| download, 1 connection, MB/s | 1.50 |" in page
    assert "frp is left out: no Go" in page
    assert all(f"](benchmarks/{name})" in page for name in plots)


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record("startup", FACTS, "text")
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record
