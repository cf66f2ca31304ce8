"""A program's certificates follow their files, as a daemon's do."""

from pathlib import Path

import structlog

from tunneld.config import RoleConfig
from tunneld.filewatch import FileWatch
from tunneld.role import Role, RoleError
from tunneld.rolefiles import files_of

log = structlog.get_logger(__name__)


async def follow_files(role: Role, config: RoleConfig) -> None:
    """Have ``role`` use its files anew when they change, until cancelled; those that cannot be used
    change nothing."""
    watch = FileWatch(lambda: {config.name: files_of(config, Path.cwd())})
    while True:
        await watch.next_change()
        try:
            prepared = role.prepare(config)
        except RoleError as exc:
            log.error("files not reloaded, the old ones stay", error=str(exc))
            continue
        prepared.commit()
        for change in prepared.changes:
            log.info("file reloaded", key=change.field, old=change.old, new=change.new)
