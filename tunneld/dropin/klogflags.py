"""The flags of klog, the logging package of konnectivity's programs, and what they mean here."""

import logging
import re
from dataclasses import dataclass

from tunneld.dropin.flagtable import flag
from tunneld.dropin.govalues import BadValueError, format_bool, parse_bool, parse_int, parse_uint
from tunneld.dropin.pflag import STRING, Kind

_SEVERITIES = {"INFO": 0, "WARNING": 1, "ERROR": 2, "FATAL": 3}
_LEVEL_BITS = 32

_NONE = "no effect here"


def _go_bool(text: str) -> bool:
    try:
        return parse_bool(text)
    except BadValueError:  # Go's package flag says no more than this
        raise BadValueError("parse error") from None


def _severity(text: str) -> int:
    known = _SEVERITIES.get(text.upper())
    return parse_int(text, 10, _LEVEL_BITS) if known is None else known


def _level(text: str) -> int:
    return parse_int(text, 10, _LEVEL_BITS)


def _modules(text: str) -> str:
    for pattern in filter(None, text.split(",")):
        name, _, level = pattern.partition("=")
        try:
            number = parse_int(level, 10, _LEVEL_BITS)
        except BadValueError:
            number = None
        if not name or number is None:
            raise BadValueError("syntax error: expect comma-separated list of filename=N")
        if number < 0:
            raise BadValueError("negative value for vmodule level")
    return text


def _location(text: str) -> str:
    if text in ("", ":0"):
        return ":0"
    match = re.fullmatch(r"([^:]*\.[^:]*):([+-]?[0-9]{1,18})", text)
    if match is None:
        raise BadValueError("syntax error: expect file.go:234")
    if int(match[2]) <= 0:
        raise BadValueError("negative or zero value for level")
    return text


GO_BOOL: Kind[bool] = Kind("", _go_bool, format_bool, implied="true")
UINT: Kind[int] = Kind("uint", parse_uint, str)
LEVEL: Kind[int] = Kind("Level", _level, str)
SEVERITY: Kind[int] = Kind("severity", _severity, str)
MODULES: Kind[str] = Kind("moduleSpec", _modules, str)
LOCATION: Kind[str] = Kind("traceLocation", _location, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class KlogOptions:
    """What both programs have."""

    v: int = flag(
        LEVEL,
        4,
        "how much to log: below 0 errors, 0 warnings too, 1 to 4 the course of things, 5 and more "
        "details for debugging",
        shorthand="v",
    )
    logtostderr: bool = flag(
        GO_BOOL, True, "log to stderr; with =false and a --log-file, to that file alone"
    )
    alsologtostderr: bool = flag(
        GO_BOOL, False, "log to stderr too when --logtostderr=false has logs in a file"
    )
    log_file: str = flag(STRING, "", "file for logs when --logtostderr=false; its mode is 0600")
    log_file_max_size: int = flag(
        UINT,
        1800,
        "megabytes of --log-file, beyond which it is renamed to end in .1 and begun anew; "
        "0 is no limit",
    )
    log_dir: str = flag(
        STRING, "", "directory for logs without a --log-file: " + _NONE + ", they go to stderr"
    )
    stderrthreshold: int = flag(SEVERITY, 2, "least severity for stderr besides files: " + _NONE)
    alsologtostderrthreshold: int = flag(
        SEVERITY, 0, "least severity for stderr with --alsologtostderr: " + _NONE
    )
    legacy_stderr_threshold_behavior: bool = flag(
        GO_BOOL, True, "whether --logtostderr sets --stderrthreshold aside: " + _NONE
    )
    one_output: bool = flag(
        GO_BOOL, False, "log each line to one of several files by severity: " + _NONE
    )
    add_dir_header: bool = flag(GO_BOOL, False, "directories of source files in logs: " + _NONE)
    skip_headers: bool = flag(GO_BOOL, False, "no headers before log lines: " + _NONE)
    skip_log_headers: bool = flag(GO_BOOL, False, "no headers of log files: " + _NONE)
    log_backtrace_at: str = flag(
        LOCATION, ":0", "stack trace when logging at file:N, a line of Go's sources: " + _NONE
    )
    vmodule: str = flag(
        MODULES, "", "verbosity by pattern=N of Go's source files, a list with commas: " + _NONE
    )

    def log_level(self) -> int:
        """What ``-v`` is in terms of Python's package logging."""
        if self.v < 0:
            return logging.ERROR
        if self.v == 0:
            return logging.WARNING
        return logging.INFO if self.v < 5 else logging.DEBUG
