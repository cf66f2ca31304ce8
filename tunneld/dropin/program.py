"""What both programs do around their work: read flags, check them, log, and tell why they fail."""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
import trio

from tunneld.dropin.checks import OptionsError
from tunneld.dropin.flagtable import flags_of, options, read
from tunneld.dropin.klogflags import KlogOptions
from tunneld.dropin.logs import configure_logs
from tunneld.dropin.pflag import FlagError
from tunneld.dropin.usage import usage
from tunneld.limits import give_memory_back, raise_limit

log = structlog.get_logger(__name__)

OptionsT = TypeVar("OptionsT", bound=KlogOptions)

FAILURE = 1
"""Exit code of whatever goes wrong, as konnectivity's."""


class StartError(Exception):
    """The program cannot run; the message is for people."""


@dataclass(frozen=True, slots=True)
class Program(Generic[OptionsT]):
    """One of the two."""

    name: str
    about: str
    """A sentence for ``--help``."""
    options: type[OptionsT]
    """Its flags."""
    invalid: str
    """Begins the text of an error in the options."""
    check: Callable[[OptionsT], list[str]]
    """Returns warnings; raises `OptionsError`."""
    serve: Callable[[OptionsT], Awaitable[int]]
    """Runs under trio until told to stop, and returns the exit code; raises `StartError`."""


def run(
    program: Program[OptionsT], arguments: Sequence[str], environment: Mapping[str, str]
) -> int:
    """Run ``program`` by a command line (without its name); returns its exit code."""
    flags = flags_of(program.options)
    try:
        parsed = read(program.options, list(arguments))
        chosen = options(program.options, parsed, environment)
    except FlagError as exc:
        return _fail(exc, usage(program.name, flags))
    for notice in parsed.notices:
        _tell(notice)
    if parsed.values.get("help"):
        _print(f"{program.about}\n\n{usage(program.name, flags)}\n")
        return 0
    try:
        return _serve(program, chosen)
    except StartError as exc:
        return _fail(exc, f"see: {program.name} --help")
    except KeyboardInterrupt:  # before signals are looked after
        return FAILURE


def _serve(program: Program[OptionsT], chosen: OptionsT) -> int:
    try:
        warnings = program.check(chosen)
    except OptionsError as exc:
        raise StartError(f"{program.invalid} {exc}") from exc
    try:
        configure_logs(chosen)
    except OSError as exc:
        raise StartError(f"cannot log to {chosen.log_file}: {exc.strerror}") from exc
    for warning in warnings:
        log.warning(warning)
    raise_limit()
    give_memory_back()
    try:
        return trio.run(program.serve, chosen)
    except BaseExceptionGroup as group:
        failure = _first_start_error(group)
        if failure is None:
            raise
        raise failure from group


def _first_start_error(group: BaseExceptionGroup[BaseException]) -> StartError | None:
    """The reason, if `StartError`s are all there is in ``group``."""
    _, others = group.split(StartError)
    if others is not None:
        return None
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, StartError)  # the split says so
    return leaf


def _fail(error: Exception, advice: str) -> int:
    _tell(f"Error: {error}\n{advice}")
    return FAILURE


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 (logs go elsewhere, perhaps)


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads it has enough; what is buffered must not be tried again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
