"""Whether the kernel lets us, and whom to ask."""

import errno
from pathlib import Path

import pytest

from netns.errors import NetnsError
from netns.permission import attempt, forbidden

EPERM = OSError(errno.EPERM, "Operation not permitted")
ENOSPC = OSError(errno.ENOSPC, "No space left on device")


def switch(folder: Path, name: str, value: str) -> Path:
    path = folder.joinpath(*name.split("."))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")
    return folder


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
        ("kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_error_names_the_switch_that_forbids_and_how_to_set_it(
    tmp_path: Path, name: str, value: str, remedy: str
) -> None:
    error = forbidden("make a user namespace", EPERM, switch(tmp_path, name, value))
    assert error.code == "forbidden"
    assert error.message.startswith("the kernel does not let us make a user namespace: EPERM")
    assert f"sysctl {name}, is {value}" in error.message
    assert remedy in error.hint


def test_switch_that_allows_is_not_blamed(tmp_path: Path) -> None:
    error = forbidden("x", EPERM, switch(tmp_path, "user.max_user_namespaces", "9"))
    assert "sysctl" not in error.message
    assert "container" in error.hint


def test_used_up_limit_is_told_apart(tmp_path: Path) -> None:
    assert "raise the limits" in forbidden("x", ENOSPC, tmp_path).hint


def test_only_refusals_become_forbidden() -> None:
    def fail(number: int) -> None:
        raise OSError(number, "text")

    with pytest.raises(NetnsError):
        attempt("x", lambda: fail(errno.EACCES))
    with pytest.raises(FileNotFoundError):
        attempt("x", lambda: fail(errno.ENOENT))
