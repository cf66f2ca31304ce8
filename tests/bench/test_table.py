from bench import table
from bench.growth import growth_table
from bench.results import Result
from tests.bench.factories import result, rounds


def test_figures_have_a_column_for_each_target_and_a_dash_for_what_is_missing() -> None:
    results = [*rounds("ours", 100, 300, 200), Result(0, "direct", "echo-1", {"ms.p50": 0.0712})]
    assert table.figures(results, ["ours", "direct"]).splitlines() == [
        "|  | ours | direct |",
        "| :-- | --: | --: |",
        "| download, 1 connection, MB/s | 200 [100-300] | – |",  # noqa: RUF001
        "| 64-byte echo, 1 connection, p50 ms | – | 0.071 |",  # noqa: RUF001
    ]


def test_ratios_leave_out_what_has_no_meaning_as_one() -> None:
    results = [
        *rounds("ours", 300),
        *rounds("ssh", 200),
        result("ours", "down-32", jain=1),
        result("ssh", "down-32", jain=1),
    ]
    assert table.ratios(results, "ours", ["ssh"]).splitlines() == [
        "| ours ÷ | ssh |",
        "| :-- | --: |",
        "| download, 1 connection, MB/s | 1.50 |",
    ]


def test_growth_shows_each_column_with_its_digits() -> None:
    rows = [{"count": 10_000.0, "kb": 1.26}]
    text = growth_table(rows, (("connections", "count", 0), ("kB", "kb", 1)))
    assert text.splitlines()[2] == "| 10,000 | 1.3 |"
