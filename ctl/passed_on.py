"""Commands that are passed on, as they stand, to `tunneld`: it does them without a daemon."""

import os
import subprocess

import click
from click.shell_completion import CompletionItem

from ctl.app import App
from ctl.programs import TUNNELD, become

PATIENCE = 3.0
"""Seconds for the program to start and say what may follow."""

_ARGUMENTS = "arguments"


def _complete(
    ctx: click.Context, _: click.Parameter | None, incomplete: str
) -> list[CompletionItem[str]]:
    """What the program completes after the arguments that stand there."""
    words = ["tunneld", str(ctx.command.name), *ctx.params.get(_ARGUMENTS, ()), incomplete]
    variables = {
        "_TUNNELD_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    try:
        done = subprocess.run(
            TUNNELD,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    items = (line.partition(",") for line in done.stdout.splitlines())
    return [CompletionItem(value, type=kind) for kind, comma, value in items if comma]


class PassedOn(click.Command):
    """A command of `tunneld` under the same name."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Called for options, which are the program's too."""
        return _complete(ctx, None, incomplete)


def passed_on(name: str, text: str) -> click.Command:
    """The command ``name``; ``text`` is what `tunnelctl --help` says of it."""

    @click.command(
        name,
        cls=PassedOn,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
        help=text,
    )
    @click.argument(_ARGUMENTS, nargs=-1, type=click.UNPROCESSED, shell_complete=_complete)
    @click.pass_obj
    def command(app: App, arguments: tuple[str, ...]) -> None:
        become([*TUNNELD, name, *arguments], app.environment())

    return command
