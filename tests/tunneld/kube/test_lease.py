"""Leases as read from an API, and labels as read from a flag."""

from datetime import timedelta, timezone

import pytest

from tests.tunneld.kube.samples import EPOCH, lease_object
from tunneld.kube.lease import (
    collection_path,
    listed,
    micro_time,
    object_path,
    parse_labels,
    parse_lease,
    parse_leases,
    selector_of,
)


def valid_after(seconds: float, **how: float | None) -> bool:
    lease = parse_lease(lease_object("a", **how))  # type: ignore[arg-type]
    assert lease is not None
    return lease.is_valid(EPOCH + timedelta(seconds=seconds))


def test_a_lease_is_valid_for_its_duration_after_it_was_renewed() -> None:
    assert valid_after(0)
    assert valid_after(29.999)
    assert not valid_after(30)
    assert valid_after(-1000)  # another machine's clock goes ahead


def test_a_lease_that_was_never_renewed_counts_from_when_it_was_acquired() -> None:
    assert valid_after(29, renewed=None, acquired=0)
    assert not valid_after(30, renewed=None, acquired=0)
    assert not valid_after(30, renewed=0, acquired=20)


def test_a_lease_without_a_time_or_a_duration_is_not_valid() -> None:
    assert not valid_after(0, renewed=None)
    assert not valid_after(0, duration=None)
    assert not valid_after(0, duration=-5)


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00Z", "2026-01-01T02:00:00.000000000+02:00"])
def test_times_are_read_in_all_forms_of_rfc_3339(text: str) -> None:
    value = lease_object("a")
    value["spec"]["renewTime"] = text
    lease = parse_lease(value)
    assert lease is not None
    assert lease.spec.renew_time == EPOCH


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"metadata": {}},
        {"metadata": {"name": "a"}},  # without a version it could not be deleted safely
        {"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"renewTime": "yesterday"}},
        {"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"renewTime": "2026-01-01"}},
        {"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"leaseDurationSeconds": 1e99}},
        {
            "metadata": {"name": "a", "resourceVersion": "1"},
            "spec": {"leaseDurationSeconds": 2**31},
        },
    ],
)
def test_what_is_no_lease_is_left_out(value: object) -> None:
    good = lease_object("good")
    names = [lease.metadata.name for lease in parse_leases([value, good])]
    assert names == ["konnectivity-proxy-server-good"]


def test_lists_may_be_null() -> None:
    assert listed({"items": [1]}) == [1]
    assert listed({"items": None}) == []
    assert listed({}) == []


def test_micro_times_are_utc_and_have_six_decimals() -> None:
    assert micro_time(EPOCH + timedelta(microseconds=7)) == "2026-01-01T00:00:00.000007Z"
    east = EPOCH.astimezone(timezone(timedelta(hours=2)))
    assert micro_time(east) == "2026-01-01T00:00:00.000000Z"


def test_names_cannot_leave_their_place_in_a_path() -> None:
    assert collection_path("a") == "/apis/coordination.k8s.io/v1/namespaces/a/leases"
    assert object_path("a/b", "../c?d") == (
        "/apis/coordination.k8s.io/v1/namespaces/a%2Fb/leases/..%2Fc%3Fd"
    )


def test_labels_are_pairs_separated_by_commas() -> None:
    assert parse_labels("k8s-app=konnectivity-server") == {"k8s-app": "konnectivity-server"}
    assert parse_labels("a=1, b = 2 ,c=") == {"a": "1", "b": "2", "c": ""}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "empty string provided"),
        ("a", "invalid label format: a"),
        ("a=1,b", "invalid label format: b"),
        ("a=1,", "invalid label format: "),
        ("a=1=2", "invalid label format: a=1=2"),
        ("a==1", "invalid label format: a==1"),
    ],
)
def test_labels_of_another_form_are_refused_as_upstream_does(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_labels(text)
    assert str(caught.value) == error


def test_a_selector_asks_for_all_labels() -> None:
    assert selector_of({"b": "2", "a": "1"}) == "a=1,b=2"
