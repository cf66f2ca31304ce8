"""Every mistake of a plain map against a msgspec type, where msgspec itself stops at the first.

Tables (structs) and arrays of tables are walked; single values are left to `msgspec.convert`.
"""

import difflib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: ``path`` as in ``role[0].frontends[1].listen``, "" for the whole."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def struct_problems(value: object, struct: type[Struct], path: str) -> Iterator[Problem]:
    """All mistakes in a table: unknown and missing keys, wrong types, at any depth."""
    if not isinstance(value, dict):
        yield Problem(path, f"expected a table, got {shown(value)}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    known = [*fields, *([tag] if tag else [])]
    for key in value:
        if key not in known:
            yield Problem(join(path, str(key)), f"unknown key{did_you_mean(str(key), known)}")
    for name, field in fields.items():
        yield from _field_problems(value, name, field, path)


def _field_problems(
    table: dict[str, Any], name: str, field: FieldInfo, path: str
) -> Iterator[Problem]:
    if name in table:
        yield from value_problems(table[name], field.type, join(path, name))
    elif field.required and field.default is NODEFAULT:
        yield Problem(join(path, name), "is missing")


def value_problems(value: object, kind: Any, path: str) -> Iterator[Problem]:
    """All mistakes in a value of type ``kind``: a struct, a tuple of structs, or anything else."""
    if get_origin(kind) is UnionType and isinstance(value, dict):  # a table, or none
        kind = get_args(kind)[0]
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from struct_problems(value, kind, path)
    elif isinstance(item, type) and issubclass(item, Struct) and isinstance(value, list):
        for index, element in enumerate(value):
            yield from struct_problems(element, item, f"{path}[{index}]")
    else:
        yield from _plain_problems(value, kind, path)


def _plain_problems(value: object, kind: Any, path: str) -> Iterator[Problem]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$")
        inner = path + where.rstrip("`")
        what = what.replace("`", "")
        yield Problem(inner, f"{what[:1].lower()}{what[1:]}, seen {shown(value)}")


def join(path: str, key: str) -> str:
    """The path of ``key`` in the table at ``path``."""
    return f"{path}.{key}" if path else key


def did_you_mean(seen: str, known: Collection[str]) -> str:
    """What follows "unknown …": the nearest of the known words, or all of them."""
    nearest = difflib.get_close_matches(seen, known, n=1)
    if nearest:
        return f", did you mean {nearest[0]}?"
    return f", expected one of {', '.join(sorted(known))}"


def shown(value: object) -> str:
    """A value as a message quotes it, cut to a readable length."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
