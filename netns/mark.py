"""The mark: how we tell what we made from what others made, whatever a journal says.

Each lab has a *token*, derived from its directory. It is on everything that the lab adds to the
machine: a namespace carries it as alias of its loopback device, a file in its first line. The
file that a namespace is mounted on is linked into place with its content complete, and the
loopback device gets its alias before the namespace has a name; so there is no moment at which
something of ours is unmarked.
"""

import hashlib
import os
from pathlib import Path

_FIRST = "made by tunneld for lab"


def token_of(directory: Path) -> str:
    """The token of the lab with that directory."""
    return hashlib.blake2b(os.fsencode(directory.resolve()), digest_size=12).hexdigest()


def mark(lab: str, token: str) -> str:
    """One line without its end; fits into a device's alias (IFALIASZ, 256 octets)."""
    return f"{_FIRST} {lab} {token}"


def is_marked(text: str, token: str) -> bool:
    """Whether a file's content or an alias bears the mark of that lab."""
    words = text.partition("\n")[0].lstrip("# ").split()
    return text.lstrip("# ").startswith(_FIRST) and words[-1] == token


def is_marked_file(path: Path, token: str) -> bool:
    """Whether ``path`` is a readable file with the lab's mark."""
    try:
        with path.open("rb") as file:
            return is_marked(file.read(512).decode(errors="replace"), token)
    except OSError:
        return False


def place_file(path: Path, lab: str, token: str, text: str, prefix: str = "") -> None:
    """Make a file that was not there, complete and marked from its first moment.

    Args:
      text: what follows the line of the mark.
      prefix: of that line, where the format wants comments.
    Raises:
      FileExistsError: something of that name is there.
    """
    temporary = temporary_name(path, token)
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "w") as file:
        file.write(f"{prefix}{mark(lab, token)}\n{text}")
    try:
        os.link(temporary, path)  # unlike a rename it fails when the name is taken
    finally:
        temporary.unlink()


def temporary_name(path: Path, token: str) -> Path:
    """Where `place_file` prepares a file; only a kill leaves it there."""
    return path.with_name(f".tunneld-{token}")
