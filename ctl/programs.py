"""Our other programs: running them, or becoming them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ctl.messages import ControlError

# -P: a directory `ctl` where the caller happens to stand must not be run instead of us.
TUNNELD = (sys.executable, "-P", "-m", "tunneld")
TUNNELCTL = (sys.executable, "-P", "-m", "ctl")


def become(argv: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Replace this process by ``argv``, with its terminal, its exit status and ``variables`` set.

    Raises:
      ControlError: it cannot be executed.
    """
    # Python ignores SIGPIPE, and that would be inherited: `yes | head -1` would never end.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(argv[0], list(argv), {**os.environ, **variables})
    except OSError as exc:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        raise ControlError("failed", f"cannot execute {argv[0]}: {exc.strerror}") from exc


def run(argv: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run ``argv`` on our terminal and wait for it; its exit status, 128 + n for signal n."""
    status = subprocess.run(argv, env={**os.environ, **variables}, check=False).returncode
    return 128 - status if status < 0 else status
