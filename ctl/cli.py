"""tunnelctl: the command group, and how a run ends.

Commands are loaded when they are called: `tunnelctl dial` sits in people's ssh configuration and
must start fast.
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from ctl.app import App
from ctl.messages import EXIT_CODES, ControlError
from ctl.output import FORMAT_VERSION, print_note

INTERRUPTED = 130

_COMMANDS = {
    "agents": "ctl.cmd_agents",
    "certs": "ctl.cmd_certs",
    "completion": "ctl.cmd_completion",
    "conns": "ctl.cmd_conns",
    "demo": "ctl.cmd_demo",
    "dial": "ctl.cmd_dial",
    "doctor": "ctl.cmd_doctor",
    "drain": "ctl.cmd_drain",
    "events": "ctl.cmd_events",
    "explain": "ctl.cmd_explain",
    "forward": "ctl.cmd_forward",
    "grpc": "ctl.cmd_grpc",
    "health": "ctl.cmd_health",
    "http": "ctl.cmd_http",
    "kill": "ctl.cmd_kill",
    "metrics": "ctl.cmd_metrics",
    "ns": "ctl.cmd_ns",
    "policy": "ctl.cmd_policy",
    "reload": "ctl.cmd_reload",
    "role": "ctl.cmd_role",
    "secrets": "ctl.cmd_secrets",
    "status": "ctl.cmd_status",
    "top": "ctl.cmd_top",
    "trace": "ctl.cmd_trace",
    "upgrade": "ctl.cmd_upgrade",
}


class LazyGroup(click.Group):
    """A group whose commands are the ``command`` of modules, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"tunnelctl {version('tunneld')}")
        ctx.exit()


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--control",
    type=click.Path(),
    metavar="PATH",
    help="Control socket of the daemon [TUNNELD_CONTROL].",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="State directory of the daemon [TUNNELD_STATE].",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_obj
def cli(app: App, control: str | None, state: str | None) -> None:
    """Reach private endpoints through tunneld, and look after its roles and labs."""
    app.control_option = control
    app.state_option = state


def main() -> None:
    """The console script."""
    _open_missing_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):  # None where descriptor 1 was closed
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    app = App()
    try:
        code = cli.main(list(arguments), prog_name="tunnelctl", standalone_mode=False, obj=app)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except ControlError as exc:
        _show_error(exc, app)
        return EXIT_CODES.get(exc.code, 1)
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except OSError as exc:
        _show_error(ControlError("failed", _describe(exc)), app)
        return 1
    return code if isinstance(code, int) else 0


def _show_error(error: ControlError, app: App) -> None:
    if app.as_json:
        import json

        value = {"version": FORMAT_VERSION, "error": error.to_map()}
        click.echo(json.dumps(value, default=str), err=True)
        return
    print_note(f"error[{error.code}]: {error.message}")
    if error.hint:
        print_note(f"hint: {error.hint}")


def _describe(exc: OSError) -> str:
    return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror or exc)


def _silence_stdout() -> None:
    """Whoever read our output is gone: nothing more is to be said there, not even at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def _open_missing_descriptors() -> None:
    """Fill 0, 1 and 2, or the next socket would become our standard input or output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
