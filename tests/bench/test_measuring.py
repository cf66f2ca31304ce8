from bench.measuring import numbers


def test_numbers_of_a_result_are_flat() -> None:
    line = {
        "test": "rtt",
        "n": 64,
        "rt_per_s": 1234.5,
        "ms": {"p50": 0.5, "p99": 2},
        "open_ms": None,
        "errors": {"reset": 3},
    }
    assert numbers(line) == {"n": 64, "rt_per_s": 1234.5, "ms.p50": 0.5, "ms.p99": 2}
