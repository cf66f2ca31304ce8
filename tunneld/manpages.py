"""The manual pages that come with the package: `docs/generate.py` writes them."""

from importlib.resources import files
from pathlib import Path


def install(directory: Path) -> int:
    """Write the pages where `man` looks for them below ``directory``, which is such as
    /usr/local/share/man; how many there are.

    Raises:
      OSError: they cannot be written there.
    """
    pages = [page for page in files("tunneld").joinpath("man").iterdir() if page.is_file()]
    for page in pages:
        section = directory / f"man{page.name.rpartition('.')[2]}"
        section.mkdir(parents=True, exist_ok=True)
        (section / page.name).write_bytes(page.read_bytes())
    return len(pages)
