"""`tunneld`: start, stop and look at the daemon. Imports little: `start` is ready within a second,
and everything heavy is the daemon's own."""

import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ctl.completion import completion_command
from ctl.messages import EXIT_CODES, ControlError
from ctl.paths import CONTROL_VARIABLE, STATE_VARIABLE, PathError, control_path, state_directory

STOP_TIMEOUT = 120.0
"""Seconds that `stop` waits for the daemon to drain and end."""


class _Group(click.Group):
    """Loads what needs the cryptography library when it is called: that takes its time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "certs", "doctor", "secrets"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "certs":
            from tunneld.certs_cli import certs

            return certs
        if cmd_name == "doctor":
            from tunneld.doctor.cli import doctor

            return doctor
        if cmd_name == "secrets":
            from tunneld.secrets_cli import secrets

            return secrets
        return super().get_command(ctx, cmd_name)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from tunneld import __version__

        click.echo(f"tunneld {__version__}")
        ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
def cli() -> None:
    """A reverse tunnel daemon: its roles are servers, agents and endpoints."""


def _control_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--control",
        metavar="PATH",
        help=f"Control socket  [{CONTROL_VARIABLE}, or by user].",
    )(command)


def _state_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--state", metavar="DIR", help=f"State directory  [{STATE_VARIABLE}, or by user]."
    )(command)


_output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Output format."
)


cli.add_command(completion_command("tunneld"))


@cli.command()
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with the roles."
)
@_control_option
@_state_option
@click.option("--foreground", is_flag=True, help="Stay, and log to stderr too.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="What the log looks like, in place of the configuration's log.format.",
)
@click.option("--takeover", type=int, hidden=True, help="Descriptor of the line to a daemon.")
def start(
    config: Path | None,
    control: str | None,
    state: str | None,
    foreground: bool,
    log_format: str | None,
    takeover: int | None,
) -> None:
    """Start the daemon; it detaches as soon as it is ready."""
    places = _control(control), state_directory(state)
    service = {**_take_service(), "log_format": log_format or ""}
    if takeover is not None:
        _succeed(takeover, config, *places, service)
        return
    if foreground:
        _start_in_foreground(config, *places, service)
        return
    from tunneld.detach import Tell, detach

    config = config.absolute() if config else None

    def body(tell: Tell) -> None:
        _run_daemon(config, *places, service, tell)

    message = detach(body)
    if message is None:
        raise ControlError(
            "failed", "the daemon ended before it was ready", f"see {places[1] / 'tunneld.log'}"
        )
    if "error" in message:
        raise ControlError.from_map(message["error"])
    _print_ready(message)


@cli.command()
@_control_option
def stop(control: str | None) -> None:
    """Stop the daemon and wait until it is gone; its roles finish what they do."""
    from tunneld.ask import ask

    path = _control(control)
    _, pid = ask(path, "stop")
    if not _wait_for_end(pid, STOP_TIMEOUT):
        raise ControlError(
            "timeout",
            f"the daemon, pid {pid}, still drains after {STOP_TIMEOUT:g} s",
            f"wait, or end it at once: kill {pid}",
        )
    click.echo(f"tunneld stopped, pid {pid}")


@cli.command()
@_control_option
@_output_option
def status(control: str | None, output: str) -> None:
    """Show whether the daemon runs, and its roles."""
    from tunneld.ask import ask

    result, _ = ask(_control(control), "status")
    if output == "json":
        click.echo(json.dumps(result))
        return
    up = max(0, int(time.time() - float(result["since"])))
    click.echo(f"tunneld {result['version']} runs: pid {result['pid']}, up {up} s")
    click.echo(f"control socket   {result['control']}")
    click.echo(f"state directory  {result['state']}")
    for role in result["roles"]:
        click.echo(_role_line(role))


@cli.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a configuration file; every mistake is shown, with its place."""
    from tunneld.configfile import ConfigError, load_config

    try:
        config = load_config(file)
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        sys.exit(2)
    number = len(config.role)
    click.echo(f"{file}: ok, {number} role{'' if number == 1 else 's'}")


@cli.command()
@click.option("--name", metavar="LAB", help="This lab only  [all of them].")
@_control_option
@_state_option
def cleanup(name: str | None, control: str | None, state: str | None) -> None:
    """Remove what a dead daemon has left: labs, its socket, its lock files."""
    from tunneld.cleanup import clean_up

    number = clean_up(_control(control), state_directory(state), name, click.echo)
    if not number:
        click.echo("nothing to clean up")


@cli.command("man-pages")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def man_pages(directory: Path) -> None:
    """Write the manual pages below DIR, such as /usr/local/share/man."""
    from tunneld.manpages import install

    try:
        number = install(directory)
    except OSError as exc:
        text = f"cannot write {exc.filename or directory}: {exc.strerror}"
        raise ControlError("failed", text, "choose a directory of yours, or be root") from exc
    click.echo(f"{number} manual pages written below {directory}")


def _control(option: str | None) -> Path:
    try:
        return control_path(option)
    except PathError as exc:
        raise click.UsageError(str(exc)) from exc


def _take_service() -> dict[str, Any]:
    """What the service manager that started this process has given to it, as of `Settings`; to be
    taken before any fork."""
    from tunneld.inherited import take_from_environment
    from tunneld.notify import Notifier

    return {"notifier": Notifier.from_environment(), "refused": take_from_environment()}


def _start_in_foreground(
    config: Path | None, control: Path, state: Path, service: dict[str, Any]
) -> None:
    def tell(message: dict[str, Any]) -> None:
        if "error" in message:
            raise ControlError.from_map(message["error"])
        try:
            _print_ready(message)
        except BrokenPipeError:
            _discard_output()  # nobody reads it; that is no reason to end

    _run_daemon(config, control, state, service, tell, detached=False)


def _succeed(
    descriptor: int, config: Path | None, control: Path, state: Path, service: dict[str, Any]
) -> None:
    """Be the successor of the daemon at the other end of a socketpair."""
    from tunneld.notify import Notifier
    from tunneld.takeover import Takeover

    try:
        takeover = Takeover(descriptor)
    except (ValueError, OSError) as exc:
        raise click.UsageError(f"--takeover is what tunnelctl upgrade uses: {exc}") from exc
    order = takeover.order
    service |= {"takeover": takeover, "notifier": Notifier(order.notify, order.watchdog)}

    def tell(message: dict[str, Any]) -> None:
        if "error" in message:
            takeover.tell(message)

    _run_daemon(config, control, state, service, tell, detached=order.detached)


def _run_daemon(
    config: Path | None,
    control: Path,
    state: Path,
    service: dict[str, Any],
    tell: Callable[[dict[str, Any]], None],
    *,
    detached: bool = True,
) -> None:
    """Be the daemon; tell how the start went."""
    from tunneld.config import Config
    from tunneld.configfile import ConfigError, load_config
    from tunneld.daemon import run
    from tunneld.settings import Settings, StartError

    def ready(complaints: Any) -> None:
        tell({"pid": os.getpid(), "control": str(control), "complaints": list(complaints)})

    try:
        roles = load_config(config) if config else Config()
        file = config and config.absolute()
        settings = Settings(control, state, roles, detached=detached, file=file, **service)
        run(settings, ready)
    except ConfigError as exc:
        error = ControlError("failed", f"bad configuration\n{exc}", "see: tunneld check-config")
    except StartError as exc:
        error = ControlError("failed", str(exc), exc.hint)
    except Exception as exc:
        traceback.print_exc()  # where the log goes too
        text = f"{type(exc).__name__}: {exc}"
        tell({"error": ControlError("internal", text, "please report this").to_map()})
        raise
    else:
        return
    tell({"error": error.to_map()})


def _print_ready(message: dict[str, Any]) -> None:
    click.echo(f"tunneld is ready: pid {message['pid']}, control socket {message['control']}")
    for complaint in message["complaints"]:
        click.echo(f"note: {complaint}", err=True)


def _discard_output() -> None:
    """Let what is still buffered go nowhere: Python would try again at its exit, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _role_line(role: dict[str, Any]) -> str:
    where = f" in {role['namespace']}" if role["namespace"] else ""
    detail = role["reason"] or " ".join(role["addresses"])
    return f"role {role['name']} ({role['kind']}{where}): {role['state']}  {detail}".rstrip()


def _wait_for_end(pid: int, timeout: float) -> bool:
    """Wait until a process that is no child of ours has ended; False if it lives on."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        code = cli.main(arguments, prog_name="tunneld", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except ControlError as exc:
        click.echo(f"error[{exc.code}]: {exc.message}", err=True)
        if exc.hint:
            click.echo(f"hint: {exc.hint}", err=True)
        return EXIT_CODES.get(exc.code, 1)
    except BrokenPipeError:
        _discard_output()
        return 1
    return code if isinstance(code, int) else 0
