"""What the commands share: where the daemon is, how to print, which way to dial."""

from dataclasses import dataclass, field
from pathlib import Path

import click

from ctl import paths
from ctl.client import Client
from ctl.dialling import Dialer, LocalDialer
from ctl.messages import ControlError, Message

REQUEST_TIMEOUT = 120.0
"""Seconds; stopping a role may wait for what runs in it."""


@dataclass
class ProxyOptions:
    """How to reach a remote server without a daemon."""

    proxy: str | None = None
    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    server_name: str | None = None
    secret_file: str | None = None


@dataclass
class App:
    """The options of one run, and what follows from them."""

    control_option: str | None = None
    state_option: str | None = None
    as_json: bool = False
    server: str | None = None
    proxy: ProxyOptions = field(default_factory=ProxyOptions)

    @property
    def control(self) -> Path:
        """Path of the control socket."""
        try:
            return paths.control_path(self.control_option)
        except paths.PathError as exc:
            raise click.UsageError(str(exc)) from exc

    @property
    def state(self) -> Path:
        """Path of the state directory."""
        return paths.state_directory(self.state_option)

    def environment(self) -> dict[str, str]:
        """Variables by which other programs of ours find the same daemon and state."""
        return {
            paths.CONTROL_VARIABLE: str(self.control),
            paths.STATE_VARIABLE: str(self.state),
        }

    def connect(self) -> Client:
        """A control connection to the daemon."""
        return Client.connect(self.control)

    def request(self, method: str, params: Message | None = None) -> Message:
        """One request to the daemon."""
        with self.connect() as client:
            return client.request(method, params, timeout=REQUEST_TIMEOUT)

    def dialer(self) -> Dialer:
        """The way to endpoints: through the daemon, or with ``--proxy`` without one."""
        options = self.proxy
        if options.proxy is None:
            _refuse_stray(options)
            return LocalDialer(self.control, self.server)
        if self.server is not None:
            raise click.UsageError("--server chooses a role of the local daemon, --proxy has none")
        if bool(options.cert) != bool(options.key):
            raise click.UsageError("--cert and --key go together: give both or none")
        from ctl.remote import open_remote

        return open_remote(
            options.proxy,
            cert=options.cert,
            key=options.key,
            ca=options.ca,
            server_name=options.server_name,
            secret=_read_secret(options.secret_file) if options.secret_file else "",
        )


def rows_of(result: Message, name: str) -> list[Message]:
    """The list of maps called ``name`` in a result.

    Raises:
      ControlError: the daemon sent something else.
    """
    rows = result.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ControlError("internal", f"the daemon sent no list of {name}")
    return rows


def _read_secret(file: str) -> str:
    """The first line of a file."""
    text = Path(file).read_text("utf-8", errors="surrogateescape")
    secret = text.partition("\n")[0].strip()
    if not secret:
        raise click.UsageError(f"{file} is empty, expected a token or NAME:PASSWORD")
    return secret


def _refuse_stray(options: ProxyOptions) -> None:
    for flag in ("cert", "key", "ca", "server_name", "secret_file"):
        if getattr(options, flag):
            name = flag.replace("_", "-")
            raise click.UsageError(f"--{name} is for a remote server: give --proxy HOST:PORT too")
