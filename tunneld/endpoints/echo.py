"""TCP endpoint that sends back what it gets."""

import trio

from tunneld.config import EchoConfig
from tunneld.endpoints.serving import serve
from tunneld.listening import listen_tcp
from tunneld.role import Host, Role


class EchoRole(Role):
    """The role of kind ``echo``."""

    def __init__(self, config: EchoConfig, host: Host) -> None:
        self._config = config
        self._drain = host.drain

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await listen_tcp(self._config.listen)
        await serve(listeners, echo, self._drain, task_status=task_status)


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    """Send back each chunk before reading the next: a peer that doesn't read is not read from.

    The end of the peer's octets is sent back too, as a half-close.
    """
    async for chunk in stream:
        await stream.send_all(chunk)
    await stream.send_eof()
