"""Scripts that have a shell complete the command lines of our programs.

A script runs the program itself, with a variable that asks it what may follow.
"""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "fish": FishComplete,
    "zsh": ZshComplete,
}


def variable_of(program: str) -> str:
    """The variable that asks ``program`` for completions, as click names it."""
    return f"_{program.replace('-', '_').upper()}_COMPLETE"


def script(program: str, shell: str) -> str:
    """What ``shell`` is to read at its start to complete ``program``."""
    complete = SHELLS[shell](click.Command(program), {}, program, variable_of(program))
    # Not that of BashComplete, which runs a bash to see how old it is: another may read this.
    return ShellComplete.source(complete)


def completion_command(program: str) -> click.Command:
    """The command ``completion`` of ``program``."""

    @click.command("completion", help=_help(program))
    @click.argument("shell", type=click.Choice(sorted(SHELLS)))
    def command(shell: str) -> None:
        click.echo(script(program, shell), nl=False)

    return command


def _help(program: str) -> str:
    return f"""Print what makes a shell complete {program}'s command lines.

\b
bash: source <({program} completion bash)
zsh: source <({program} completion zsh)
fish: {program} completion fish | source
"""
