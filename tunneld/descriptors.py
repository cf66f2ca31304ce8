"""The limit of open files: each connection costs a descriptor at both ends of a tunnel."""

import resource


def raise_limit() -> int:
    """Take all that this process may have, as Go's programs do by themselves; shells and systemd
    give 1024 unless asked. Children inherit it.

    Returns:
      Descriptors that may be open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
