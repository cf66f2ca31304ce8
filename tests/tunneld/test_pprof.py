"""Profiles in pprof's format, read back by protobuf's own decoder, and as folded stacks."""

import gzip
from types import CodeType
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from tunneld.pprof import serialize_folded, serialize_pprof
from tunneld.stacks import Frame, Observed, Stack, StackProfile

INT64 = FieldDescriptorProto.TYPE_INT64
UINT64 = FieldDescriptorProto.TYPE_UINT64
STRING = FieldDescriptorProto.TYPE_STRING

SCHEMA: dict[str, dict[int, tuple[str, FieldDescriptorProto.Type.ValueType | str]]] = {
    "ValueType": {1: ("type", INT64), 2: ("unit", INT64)},
    "Label": {1: ("key", INT64), 2: ("str", INT64)},
    "Line": {1: ("function_id", UINT64), 2: ("line", INT64)},
    "Sample": {1: ("location_id*", UINT64), 2: ("value*", INT64), 3: ("label*", "Label")},
    "Location": {1: ("id", UINT64), 4: ("line*", "Line")},
    "Function": {
        1: ("id", UINT64),
        2: ("name", INT64),
        3: ("system_name", INT64),
        4: ("filename", INT64),
        5: ("start_line", INT64),
    },
    "Profile": {
        1: ("sample_type*", "ValueType"),
        2: ("sample*", "Sample"),
        4: ("location*", "Location"),
        5: ("function*", "Function"),
        6: ("string_table*", STRING),
        9: ("time_nanos", INT64),
        10: ("duration_nanos", INT64),
        11: ("period_type", "ValueType"),
        12: ("period", INT64),
        14: ("default_sample_type", INT64),
    },
}
"""The part of google/pprof's profile.proto that is written; ``*`` means repeated."""


def code(name: str, first_line: int) -> CodeType:
    """Of a function like this in ``file.py``."""
    template = code.__code__
    return template.replace(
        co_name=name, co_qualname=name, co_filename="/file.py", co_firstlineno=first_line
    )


INNER = Frame(code("inner", 10), 11, "pkg")
OUTER = Frame(code("Outer.run", 290), 300, "pkg")
OUTER_ON = Frame(OUTER.code, 301, "pkg")


@pytest.fixture(scope="module")
def profile_type() -> Any:
    """The class that protobuf makes for the schema."""
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", syntax="proto3")
    for name, members in SCHEMA.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in members.items():
            field = message.field.add(name=member.rstrip("*"), number=number)
            field.label = field.LABEL_REPEATED if member.endswith("*") else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = field.TYPE_MESSAGE, f".{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Profile"))


def profile() -> StackProfile:
    """Stacks of two threads, with a frame in common, and one of another line of a function."""
    return StackProfile(
        started=1_700_000_000_123_456_789,
        nanoseconds=2_000_000_000,
        stacks={
            Stack("main", (INNER, OUTER)): Observed(150, 1_500_000_000),
            Stack("main", (INNER, OUTER_ON)): Observed(1, 10_000_000),
            Stack("helper", (INNER,)): Observed(2, 20_000_000),
        },
    )


@pytest.fixture
def decoded(profile_type: Any) -> Any:
    """`profile` as others read it."""
    message = profile_type()
    octets = gzip.decompress(serialize_pprof(profile()))
    message.ParseFromString(octets)
    # With any field unknown, or not as protobuf writes it, this would not be the same.
    assert message.ByteSize() == len(octets)
    return message


def test_values_are_samples_and_nanoseconds_of_wall_time(decoded: Any) -> None:
    strings = decoded.string_table
    types = [(strings[each.type], strings[each.unit]) for each in decoded.sample_type]
    assert types == [("samples", "count"), ("wall", "nanoseconds")]
    assert [list(each.value) for each in decoded.sample] == [
        [150, 1_500_000_000],
        [1, 10_000_000],
        [2, 20_000_000],
    ]
    assert strings[decoded.default_sample_type] == "wall"


def test_stacks_lead_through_locations_to_functions(decoded: Any) -> None:
    strings = decoded.string_table
    functions = {each.id: each for each in decoded.function}
    locations = {each.id: each.line for each in decoded.location}

    def place(location: int) -> tuple[str, str, int, int]:
        (line,) = locations[location]
        function = functions[line.function_id]
        assert function.name == function.system_name
        return (
            strings[function.name],
            strings[function.filename],
            function.start_line,
            line.line,
        )

    inner = ("pkg.inner", "/file.py", 10, 11)
    assert [[place(each) for each in sample.location_id] for sample in decoded.sample] == [
        [inner, ("pkg.Outer.run", "/file.py", 290, 300)],
        [inner, ("pkg.Outer.run", "/file.py", 290, 301)],
        [inner],
    ]
    assert (len(functions), len(locations)) == (2, 3)
    assert 0 not in functions.keys() | locations.keys()


def test_samples_are_labelled_with_their_thread(decoded: Any) -> None:
    strings = decoded.string_table
    labels = [[(strings[x.key], strings[x.str]) for x in each.label] for each in decoded.sample]
    assert labels == [[("thread", "main")], [("thread", "main")], [("thread", "helper")]]


def test_times_period_and_string_table_are_as_the_format_wants_them(decoded: Any) -> None:
    assert decoded.time_nanos == 1_700_000_000_123_456_789
    assert decoded.duration_nanos == 2_000_000_000
    assert decoded.period == 10_000_000
    assert decoded.string_table[0] == ""
    assert len(set(decoded.string_table)) == len(decoded.string_table)


def test_empty_profile_is_one_too(profile_type: Any) -> None:
    message = profile_type()
    message.ParseFromString(gzip.decompress(serialize_pprof(StackProfile(started=1))))
    assert (len(message.sample), len(message.sample_type)) == (0, 2)


def test_folded_stacks_begin_at_the_thread_and_add_up_lines_of_a_function() -> None:
    assert serialize_folded(profile()) == (
        b"helper;pkg.inner 2\nmain;pkg.Outer.run;pkg.inner 151\n"
    )


def test_names_do_not_break_folded_stacks() -> None:
    folded = serialize_folded(StackProfile(1, 1, {Stack("a;b", (INNER,)): Observed(1, 1)}))
    assert folded == b"a:b;pkg.inner 1\n"
