"""Where the programs' logs go, as klog's flags say it; one line each, as the daemon's."""

from pathlib import Path

from tunneld import log as logging
from tunneld.dropin.klogflags import KlogOptions
from tunneld.logbook import LogRecord
from tunneld.logfile import LogFile, Output, render

_STDERR = 2
_MEGABYTE = 1 << 20
_UNLIMITED = 1 << 64


def configure_logs(options: KlogOptions) -> None:
    """Send the events of this process to stderr, to a file, or both.

    Raises:
      OSError: the file cannot be opened.
    """
    outputs = _outputs(options)

    def write(role: str | None, line: LogRecord) -> None:
        text = render(line, role)
        for output in outputs:
            output.write(text)

    logging.configure([write], options.log_level())


def _outputs(options: KlogOptions) -> list[Output]:
    if options.logtostderr or not options.log_file:
        return [Output(_STDERR)]
    limit = (options.log_file_max_size or _UNLIMITED) * _MEGABYTE
    outputs: list[Output] = [LogFile(Path(options.log_file), limit)]
    if options.alsologtostderr:
        outputs.append(Output(_STDERR))
    return outputs
