"""What a long-running process arranges with the system."""

import platform
import subprocess
import sys

from tests.conftest import need

DESCRIPTORS = """
import resource
from tunneld.limits import raise_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
assert raise_limit() == hard
assert raise_limit() == hard
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
"""

MEMORY = """
from pathlib import Path
from tunneld.limits import give_memory_back

def resident():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096

assert give_memory_back()
before = resident()
for size in (2 << 20, 4 << 20, 8 << 20, 16 << 20):
    queues = [bytearray(b"x") * size for _ in range(4)]
    keep = [bytearray(100_000) for _ in range(4)]
    assert resident() > before + 3 * size
    del queues
    assert resident() < before + (6 << 20)
"""


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    run(DESCRIPTORS)


def test_large_buffers_go_back_to_the_system_when_they_are_freed() -> None:
    need(platform.libc_ver()[0] == "glibc", "glibc: other C libraries have their own ways")
    run(MEMORY)
