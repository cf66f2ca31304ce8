import ipaddress

import pytest

from tunneld.addresses import METADATA, real_address, written_address


@pytest.mark.parametrize(
    ("written", "real"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::1", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
        ("0.0.0.0", "127.0.0.1"),
        ("::ffff:0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_what_it_leads_to(written: str, real: str) -> None:
    assert str(real_address(ipaddress.ip_address(written))) == real


@pytest.mark.parametrize(
    "written", ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0x7f.1"]
)
def test_old_forms_of_an_address_are_that_address(written: str) -> None:
    assert written_address(written) == ipaddress.ip_address("127.0.0.1")


@pytest.mark.parametrize(
    "name", ["db.example", "1.example", "4.3.2.1.5", "0xyz", "999999999999", ""]
)
def test_names_are_no_addresses(name: str) -> None:
    assert written_address(name) is None


def test_metadata_addresses_of_the_large_clouds_are_known() -> None:
    for text in (
        "169.254.169.254",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd00:c1::a9fe:a9fe",
        "100.100.100.200",
        "168.63.129.16",
    ):
        assert any(ipaddress.ip_address(text) in network for network in METADATA)
