"""The question about the last dials that failed, which servers and agents answer alike."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from tunneld.dialrecord import KEPT, DialRecords


class Last(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``trace.last``."""

    dial: str = ""
    """Id of the only one that is wanted; nobody may have it."""
    limit: Annotated[int, Meta(ge=1, le=KEPT)] = 20


def tell_last(records: DialRecords, params: Last, where: str = "server") -> dict[str, Any]:
    """The last failed dials, latest first.

    Args:
      where: who has noted the steps.
    """
    if not params.dial:
        return {"dials": [record.to_map(where) for record in records.latest()[: params.limit]]}
    record = records.find(params.dial)
    return {"dials": [record.to_map(where)] if record is not None else []}
