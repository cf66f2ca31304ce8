"""Texts that Go reads, and the values it reads; taken from Go's own answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.dropin.govalues import (
    BadValueError,
    format_bool,
    format_float32,
    format_list,
    parse_bool,
    parse_float32,
    parse_int,
    parse_list,
    parse_uint,
    quote,
)


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_a_bool_is_true_in_six_ways(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_a_bool_is_false_in_six_ways(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["", "yes", "tRUE", "2", " true"])
def test_nothing_else_is_a_bool(text: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse_bool(text)
    assert str(caught.value) == f'strconv.ParseBool: parsing "{text}": invalid syntax'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("+8090", 8090),
        ("-7", -7),
        ("0x1F9a", 0x1F9A),
        ("-0X10", -16),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("0x_ff", 255),
        ("0_17", 15),
        ("9223372036854775807", (1 << 63) - 1),
        ("-9223372036854775808", -(1 << 63)),
        ("0000000000000000000000000000", 0),
    ],
)
def test_an_int_may_have_a_prefix_and_underscores(text: str, value: int) -> None:
    assert parse_int(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "-", "+-1", "abc", "1.0", " 1", "1 ", "1_", "_1", "1__0", "08", "0x", "0xg", "0b2", "٣"],
)
def test_other_texts_are_no_ints(text: str) -> None:
    with pytest.raises(BadValueError, match="invalid syntax"):
        parse_int(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 9000])
def test_an_int_has_64_bits(text: str) -> None:
    with pytest.raises(BadValueError, match="value out of range"):
        parse_int(text)


def test_an_int_of_given_base_has_neither_prefix_nor_underscores() -> None:
    assert parse_int("017", 10, 32) == 17
    for text in ("0x10", "1_0"):
        with pytest.raises(BadValueError, match="invalid syntax"):
            parse_int(text, 10, 32)
    with pytest.raises(BadValueError, match="value out of range"):
        parse_int("2147483648", 10, 32)


def test_an_unsigned_int_has_the_errors_of_package_flag() -> None:
    assert parse_uint("0x10") == 16
    assert parse_uint("18446744073709551615") == (1 << 64) - 1
    for text in ("-1", "+1", "x", ""):
        with pytest.raises(BadValueError, match=r"^parse error$"):
            parse_uint(text)
    with pytest.raises(BadValueError, match=r"^value out of range$"):
        parse_uint("18446744073709551616")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("2.5", 2.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-1E-1", -0.10000000149011612),
        ("0.1", 0.10000000149011612),
        ("0x1p-2", 0.25),
        ("0x_1.8P1", 3.0),
        ("1_0.2_5", 10.25),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e-400", 0.0),
    ],
)
def test_a_float_has_32_bits(text: str, value: float) -> None:
    assert parse_float32(text) == value


def test_a_float_may_be_no_number() -> None:
    assert math.isnan(parse_float32("NaN"))
    assert format_float32(math.nan) == "NaN"


@pytest.mark.parametrize("text", ["", "abc", "1e", "0x1", "1_", "_1", "+nan", "1,5", "1e1.5"])
def test_other_texts_are_no_floats(text: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse_float32(text)
    assert str(caught.value) == f'strconv.ParseFloat: parsing "{text}": invalid syntax'


@pytest.mark.parametrize("text", ["1e39", "-1e400", "0x1p99999"])
def test_a_float_is_bounded(text: str) -> None:
    with pytest.raises(BadValueError, match="value out of range"):
        parse_float32(text)


@given(st.floats(width=32, allow_nan=False))
def test_a_float_reads_as_it_is_written(value: float) -> None:
    assert parse_float32(format_float32(value)) == value


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ()),
        ("[]", ()),
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        ("a,,b,", ("a", "", "b", "")),
        (" a , b", (" a ", " b")),
        ('"a,b",c', ("a,b", "c")),
        ('"say ""hi"""', ('say "hi"',)),
        ('""', ("",)),
        ("a\nb", ("a",)),
        ("\n\r\na", ("a",)),
        ('"a\nb"', ("a\nb",)),
    ],
)
def test_a_list_is_a_record_of_csv(text: str, values: tuple[str, ...]) -> None:
    assert parse_list(text) == values


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('"a', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
        ('"a"b', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
        ('é"', 'parse error on line 1, column 3: bare " in non-quoted-field'),
        ('a,b"', 'parse error on line 1, column 4: bare " in non-quoted-field'),
        ("\n", "EOF"),
    ],
)
def test_bad_quotes_are_refused(text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse_list(text)
    assert str(caught.value) == problem


@given(st.lists(st.text(st.characters(codec="utf-8"))).map(tuple))
def test_a_list_reads_as_it_is_written(values: tuple[str, ...]) -> None:
    assert parse_list(format_list(values)) == values


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", '""'),
        ("a b", '"a b"'),
        ('say "\\"', r'"say \"\\\""'),
        ("\n\t\x00\x7f", r'"\n\t\x00\x7f"'),
        ("é\u00ad\U000e0001", '"é\\u00ad\\U000e0001"'),
        ("\udcff", r'"\xff"'),
    ],
)
def test_quotes_are_those_of_go(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_a_bool_is_written_as_a_word() -> None:
    assert [format_bool(True), format_bool(False)] == ["true", "false"]
