import pytest

from bench.profile import libraries, shares_of

REPORT = """
    51.20%  [kernel.kallsyms]
    26.00%  libcrypto.so.3
     1.50%  _ssl.cpython-311-x86_64-linux-gnu.so
    12.00%  libpython3.11.so.1.0
     1.10%  python3.11
     0.20%  select.cpython-311-x86_64-linux-gnu.so
     8.00%  libc.so.6

"""


def test_report_of_perf_is_read_line_by_line() -> None:
    assert libraries(REPORT)["libcrypto.so.3"] == 26
    assert len(libraries(REPORT)) == 7


def test_libraries_are_put_together_by_kind() -> None:
    assert shares_of(libraries(REPORT)) == pytest.approx(
        {"kernel": 51.2, "TLS": 27.5, "interpreter": 13.3, "libc": 8, "other": 0}
    )


def test_what_is_not_known_is_other() -> None:
    assert shares_of({"frps": 70, "[vdso]": 5})["other"] == 70
