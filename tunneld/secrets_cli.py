"""`tunneld secrets …`, which is also `tunnelctl secrets …`: files of hashed secrets."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tunneld import secretsfile
from tunneld.secret import Secret, SecretError, format_time, of_password, of_token, parse_time
from tunneld.secretsfile import SecretsError
from tunneld.tokenproof import new_token

LIST_VERSION = 1

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("secrets")
def secrets() -> None:
    """Make, show and remove the hashed secrets that agents and clients are known by.

    A server's configuration names the file: secrets = "FILE". It holds hashes only.
    """


@secrets.command()
@_file
@click.argument("name")
@click.option(
    "--password",
    is_flag=True,
    help="A password that somebody chose, asked for, or the first line of stdin.",
)
@click.option(
    "--expires", metavar="TIME", help="When it ends: 2027-01-31, or 2027-01-31T12:00:00Z."
)
@click.option("--force", is_flag=True, help="Replace one of the same name.")
def add(file: Path, name: str, password: bool, expires: str | None, force: bool) -> None:
    """Add a secret to FILE, which is made if there is none.

    NAME is who is known by it: an agent's id, or a client's name. Unless it is a password, it is a
    random token, and printed: this once, since the file holds a hash of it.
    """
    with _reported():
        end = parse_time(expires) if expires else None
        if password:
            secretsfile.add(file, of_password(name, _ask_password(), end), force=force)
            return
        token = new_token()
        secretsfile.add(file, of_token(name, token, end), force=force)
    click.echo(token)


@secrets.command("list")
@_file
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def list_secrets(file: Path, output: str) -> None:
    """Show whose secrets are in FILE, and when they expire."""
    with _reported():
        rows = [_row(each) for each in secretsfile.load(file)]
    if output == "json":
        click.echo(json.dumps({"version": LIST_VERSION, "secrets": rows}))
    elif rows:
        click.echo(_table(rows))


@secrets.command()
@_file
@click.argument("name")
def remove(file: Path, name: str) -> None:
    """Take the secret of NAME out of FILE."""
    with _reported():
        secretsfile.remove(file, name)


def _ask_password() -> str:
    """From the terminal, twice; else the first line of stdin.

    Raises:
      SecretError: there is none.
    """
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise SecretError("no password on stdin: give one line")
    if len(password.encode("utf-8", "surrogateescape")) > 255:
        raise SecretError("the password has more than 255 octets, which SOCKS5 cannot carry")
    return password


def _row(secret: Secret) -> dict[str, Any]:
    return {
        "name": secret.name,
        "kind": secret.kind,
        "expires": format_time(secret.expires) if secret.expires else None,
        "expired": secret.has_expired(time.time()),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [("NAME", "KIND", "EXPIRES")]
    for row in rows:
        note = " (expired)" if row["expired"] else ""
        cells.append((row["name"], row["kind"], f"{row['expires'] or '-'}{note}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (SecretsError, SecretError) as exc:
        raise click.ClickException(str(exc)) from exc
