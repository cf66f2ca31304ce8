"""Reloading that nobody waits for: on SIGHUP, and when files have changed."""

import structlog
import trio

from ctl.messages import ControlError
from tunneld.configdiff import Change
from tunneld.events import Event, emit
from tunneld.filewatch import INTERVAL, FileWatch
from tunneld.notify import Notifier
from tunneld.reloader import CONFIG_FILE, Reloader

log = structlog.get_logger(__name__)


class Hangups:
    """SIGHUPs; several at a time are one."""

    def __init__(self) -> None:
        self._told = trio.Event()

    def tell(self) -> None:
        """There was one."""
        self._told.set()

    async def next(self) -> None:
        """Wait for one."""
        await self._told.wait()
        self._told = trio.Event()


async def reload_on_hangup(reloader: Reloader, hangups: Hangups, notifier: Notifier) -> None:
    """Reload at each SIGHUP, and let the service manager know, until cancelled."""
    while True:
        await hangups.next()
        log.info("signal received", signal="SIGHUP")
        await notifier.reloading()
        await _reload(reloader)
        await notifier.ready()


async def reload_on_change(reloader: Reloader) -> None:
    """Reload what has changed, while the configuration says so; until cancelled."""
    watch = FileWatch(reloader.files)
    while True:
        changed = await watch.next_change()
        if roles := changed - {CONFIG_FILE}:
            await reloader.reload_files(sorted(roles))
        if CONFIG_FILE in changed:
            await _reload(reloader, only_tell_changes=True)
        await trio.sleep(INTERVAL)


async def _reload(reloader: Reloader, *, only_tell_changes: bool = False) -> None:
    try:
        changes = await reloader.reload(_silently)
    except ControlError as exc:
        emit(Event.NOT_RELOADED, error=str(exc))
    else:
        if not (changes or only_tell_changes):
            emit(Event.RELOADED, changes=0)


async def _silently(_: Change) -> None:
    """Nobody asked."""
