import sys

import pytest
import structlog
import trio

from ctl.messages import ControlError, Message
from tunneld.labprogram import LabProgram

TIMEOUT = 20


class Run:
    """A program in Python, and the items that came of it."""

    def __init__(self, code: str) -> None:
        self.items: list[Message] = []
        self.program = LabProgram([sys.executable, "-S", "-c", code])

    async def result(self, request: bytes = b"") -> Message:
        with trio.fail_after(TIMEOUT):
            try:
                await self.program.request(request)
                return await self.program.result(self._take)
            finally:
                await self.program.close()

    async def _take(self, item: Message) -> None:
        self.items.append(item)


async def test_items_come_before_the_result() -> None:
    run = Run('print(\'{"item": {"step": 1}}\\n{"result": {"done": true}}\')')
    assert await run.result() == {"done": True}
    assert run.items == [{"step": 1}]


async def test_a_request_goes_in_and_stdin_stays_open() -> None:
    code = (
        "import sys; sys.stdout.write(sys.stdin.readline()); sys.stdout.flush(); sys.stdin.read()"
    )
    assert await Run(code).result(b'{"result": {"echo": 1}}\n') == {"echo": 1}


async def test_an_error_is_raised() -> None:
    run = Run('print(\'{"error": {"code": "exists", "message": "taken", "hint": "rename"}}\')')
    with pytest.raises(ControlError) as caught:
        await run.result()
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "exists",
        "taken",
        "rename",
    )


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"item": 3}', '{"other": {}}'])
async def test_nonsense_is_an_error(line: str) -> None:
    with pytest.raises(ControlError, match="a lab program said"):
        await Run(f"print({line!r})").result()


async def test_an_end_without_result_is_an_error() -> None:
    code = "import sys; sys.stderr.write('last words\\n'); sys.stderr.flush(); raise SystemExit(3)"
    with structlog.testing.capture_logs() as logs, pytest.raises(ControlError) as caught:
        await Run(code).result()
    assert "exit status 3" in caught.value.message
    assert [line.get("text") for line in logs] == ["last words"]


async def test_what_cannot_be_executed_is_an_error() -> None:
    with pytest.raises(ControlError, match="cannot execute /nowhere"):
        LabProgram(["/nowhere"])


async def test_a_client_that_is_gone_ends_the_wait() -> None:
    program = LabProgram([sys.executable, "-S", "-c", "print('{\"item\": {}}'); input()"])

    async def gone(item: Message) -> None:
        raise trio.BrokenResourceError

    with trio.fail_after(TIMEOUT):
        try:
            with pytest.raises(trio.BrokenResourceError):
                await program.result(gone)
        finally:
            await program.close()


async def test_closing_ends_stdin_and_waits_even_when_cancelled() -> None:
    code = "import sys; sys.stdin.read(); print('{\"result\": {}}')"
    program = LabProgram([sys.executable, "-S", "-c", code])
    with trio.CancelScope() as scope:
        scope.cancel()
        await program.close()
    with trio.fail_after(TIMEOUT):
        assert await program.wait() == 0
