"""The package's front: every public name is there, none is loaded before it is used."""

import subprocess
import sys

import pytest

import netns


@pytest.mark.parametrize("name", netns.__all__)
def test_every_public_name_can_be_had_and_is_documented(name: str) -> None:
    assert getattr(netns, name).__doc__


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        netns.nothing  # noqa: B018


def test_data_of_the_lab_comes_without_pyroute2() -> None:
    script = (
        "import netns, sys; [getattr(netns, name) for name in netns.__all__]; "
        "print('pyroute2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
