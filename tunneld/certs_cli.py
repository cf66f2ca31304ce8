"""`tunneld certs …`, which is also `tunnelctl certs …`: the certificates from the command line."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ctl.paths import state_directory
from tunneld.certificate import AUTHORITY_DAYS, LEAF_DAYS, Kind, PkiError, utc_now
from tunneld.pki import Entry, Pki, Side
from tunneld.registrar import Registrar

LIST_VERSION = 1

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _directory_options(command: _Command) -> _Command:
    command = click.option(
        "--name", "lab", help="The lab whose certificates.  [default: demo, if there is such a lab]"
    )(command)
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the certificates are.  [default: the lab's, else pki/ of the state directory]",
    )(command)


@click.group()
@click.option("--state", metavar="DIR", help="State directory (TUNNELD_STATE).")
def certs(state: str | None) -> None:
    """Make and show the certificates of server, agents and clients."""


@certs.command()
@_directory_options
@click.option(
    "--server-address",
    "server_addresses",
    multiple=True,
    metavar="HOST",
    help="Name or address by which clients and agents reach the server; repeatable."
    "  [default: as it is, else 127.0.0.1]",
)
@click.option("--agent-id", help="The agent's id.  [default: as it is, else demo]")
@click.option("--force", is_flag=True, help="Make everything anew, the CAs too.")
def init(
    directory: Path | None,
    lab: str | None,
    server_addresses: tuple[str, ...],
    agent_id: str | None,
    force: bool,
) -> None:
    """Make two CAs and a server's, a client's and an agent's certificate.

    What is there and valid stays as it is.
    """
    with _reported():
        pki = Registrar(_choose(directory, lab))
        outcomes = pki.init(server_addresses, agent_id, force=force)
    for outcome in outcomes:
        click.echo(f"made {outcome.path}" if outcome.made else f"kept {outcome.path}")
        if outcome.made and outcome.reason != "missing":
            click.echo(f"  {outcome.reason}", err=True)


@certs.command()
@_directory_options
@click.argument("kind", type=click.Choice(["server", "client", "agent"]))
@click.argument("name")
@click.option(
    "--san",
    "sans",
    multiple=True,
    metavar="NAME",
    help="A further host name or address, or DNS:…, IP:…, URI:…; repeatable.",
)
@click.option(
    "--days",
    type=click.IntRange(1, AUTHORITY_DAYS),
    default=LEAF_DAYS,
    show_default=True,
    help="How long it is valid, at most as long as its CA.",
)
@click.option("--force", is_flag=True, help="Replace one of the same name.")
def issue(
    directory: Path | None,
    lab: str | None,
    kind: str,
    name: str,
    sans: tuple[str, ...],
    days: int,
    force: bool,
) -> None:
    """Make one more certificate, and its key beside it.

    NAME is the agent's id, the client's name, or the server's host name. A server gets two, one of
    each CA: for its frontend and for its tunnel listener.
    """
    with _reported():
        pki = Pki(_choose(directory, lab))
        paths = pki.issue(Kind(kind), name, sans, days, force=force)
    for path in paths:
        click.echo(f"made {path}")


@certs.command()
@_directory_options
@click.argument("name")
@click.option(
    "--serial", metavar="HEX", help="Of a certificate that is not here; NAME is its side."
)
def revoke(directory: Path | None, lab: str | None, name: str, serial: str | None) -> None:
    """Put a certificate on its CA's revocation list, DIR/agent/ca.crl or DIR/frontend/ca.crl.

    NAME is as `certs list` shows it: agent/home, or home if there is but one. With --serial it is
    agent or frontend. The list counts where a listener's crl names it; its connections end there.
    """
    with _reported():
        registrar = Registrar(_choose(directory, lab))
        if serial is None:
            path = registrar.revoke(name)
        else:
            path = registrar.revoke_serial(_side(name), _serial(serial))
    click.echo(f"made {path}")


@certs.command()
@_directory_options
def crl(directory: Path | None, lab: str | None) -> None:
    """Make the revocation lists anew: each is good for 30 days.

    A listener with a list that has expired refuses everybody.
    """
    with _reported():
        for path in Registrar(_choose(directory, lab)).refresh_lists():
            click.echo(f"made {path}")


@certs.command()
@_directory_options
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--days",
    type=click.IntRange(1, AUTHORITY_DAYS),
    default=LEAF_DAYS,
    show_default=True,
    help="How long they are valid, at most as long as their CA.",
)
def renew(directory: Path | None, lab: str | None, names: tuple[str, ...], days: int) -> None:
    """Make certificates anew that say the same, with new keys; all, if none is named.

    Those before stay valid until they expire. Revoke one that is in wrong hands, first.
    """
    with _reported():
        for path in Registrar(_choose(directory, lab)).renew(names, days):
            click.echo(f"made {path}")


@certs.command("rotate-ca")
@_directory_options
@click.option(
    "--side",
    "sides",
    type=click.Choice([each.value for each in Side]),
    multiple=True,
    help="This CA only.  [default: both]",
)
@click.option("--finish", is_flag=True, help="End the old CA.")
@click.option("--force", is_flag=True, help="With --finish: though certificates of it are here.")
def rotate_ca(
    directory: Path | None, lab: str | None, sides: tuple[str, ...], finish: bool, force: bool
) -> None:
    """Replace the CAs, in three steps.

    First this puts a new CA beside the old one in each ca.crt, for you to bring to every host. Then
    `certs renew` makes all certificates anew. At last --finish ends the old CA.
    """
    with _reported():
        registrar = Registrar(_choose(directory, lab))
        for side in [Side(each) for each in sides or Side]:
            if finish:
                path = registrar.drop_authority(side, force=force)
            else:
                path = registrar.add_authority(side)
            click.echo(f"made {path}")


@certs.command("list")
@_directory_options
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def list_certificates(directory: Path | None, lab: str | None, output: str) -> None:
    """Show what there is and when it expires."""
    with _reported():
        directory = _choose(directory, lab)
    found = list(Pki(directory).entries())
    rows = _rows([each for each in found if isinstance(each, Entry)])
    if output == "json":
        click.echo(json.dumps({"version": LIST_VERSION, "certificates": rows}))
    elif rows:
        click.echo(_table(rows))
    if not found:
        click.echo(_text(_nothing_in(directory)), err=True)
    broken = [each for each in found if isinstance(each, PkiError)]
    for error in broken:
        click.echo(_text(error), err=True)
    if broken:
        raise click.exceptions.Exit(1)


@certs.command()
@_directory_options
def env(directory: Path | None, lab: str | None) -> None:
    """Print konnectivity's flags for these files, for eval "$(tunnelctl certs env)".

    Sets PROXY_SERVER_CERTS, PROXY_AGENT_CERTS and PROXY_CLIENT_CERTS; use them unquoted.
    """
    with _reported():
        lines = [
            f"export {variable}={shlex.quote(flags)}"
            for variable, flags in _flags(Pki(_choose(directory, lab)))
        ]
    click.echo("\n".join(lines))


def _choose(directory: Path | None, lab: str | None) -> Path:
    """The directory asked for: by path, of a lab, or that of the state directory.

    Raises:
      PkiError: there is no such lab.
    """
    if directory is not None:
        return directory.absolute()
    state = _state_directory()
    labs = state / "labs"
    if lab is None:
        demo = labs / "demo" / "pki"
        return demo if demo.is_dir() else state / "pki"
    if "/" in lab or lab in ("", ".", "..") or not (labs / lab).is_dir():
        raise PkiError(
            f"there is no lab {lab!r} in {labs}", f"make it: tunnelctl ns up --name {lab}"
        )
    return labs / lab / "pki"


def _state_directory() -> Path:
    """By `--state` of this group or of the whole program, or the default."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.params.get("state"):
            return state_directory(context.params["state"])
        context = context.parent
    return state_directory()


def _side(name: str) -> Side:
    try:
        return Side(name)
    except ValueError as exc:
        raise PkiError(f"{name!r} is no side", "with --serial, name agent or frontend") from exc


def _serial(text: str) -> int:
    try:
        return int(text.replace(":", ""), 16)
    except ValueError as exc:
        raise PkiError(
            f"{text[:80]!r} is no serial number", "give it in hex, as openssl x509 -serial does"
        ) from exc


def _rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    now = utc_now()
    return [
        {
            "name": each.name,
            "kind": str(each.kind),
            "subject": each.subject,
            "sans": list(each.sans),
            "not_after": each.not_after.isoformat(),
            "days_left": each.days_left(now),
            "path": str(each.path),
            "serial": f"{each.serial:x}",
            "revoked": each.revoked,
        }
        for each in entries
    ]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [("NAME", "KIND", "SUBJECT", "NOT AFTER", "DAYS", "SANS")]
    for row in rows:
        expiry = (row["not_after"][:10], "revoked" if row["revoked"] else str(row["days_left"]))
        cells.append(
            (row["name"], row["kind"], row["subject"], *expiry, ", ".join(row["sans"]) or "-")
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _flags(pki: Pki) -> Iterator[tuple[str, str]]:
    """The variables of konnectivity's demo and the flags of its three programs."""
    frontend, agent = Side.FRONTEND, Side.AGENT
    yield (
        "PROXY_SERVER_CERTS",
        _join(
            ("--server-ca-cert", pki.certificate_path(frontend, "ca")),
            ("--server-cert", pki.certificate_path(frontend, "server")),
            ("--server-key", pki.key_path(frontend, "server")),
            ("--cluster-ca-cert", pki.certificate_path(agent, "ca")),
            ("--cluster-cert", pki.certificate_path(agent, "server")),
            ("--cluster-key", pki.key_path(agent, "server")),
        ),
    )
    yield (
        "PROXY_AGENT_CERTS",
        _join(
            ("--ca-cert", pki.certificate_path(agent, "ca")),
            ("--agent-cert", pki.certificate_path(agent, "agent")),
            ("--agent-key", pki.key_path(agent, "agent")),
        ),
    )
    yield (
        "PROXY_CLIENT_CERTS",
        _join(
            ("--client-cert", pki.certificate_path(frontend, "client")),
            ("--client-key", pki.key_path(frontend, "client")),
            ("--ca-cert", pki.certificate_path(frontend, "ca")),
        ),
    )


def _join(*flags: tuple[str, Path]) -> str:
    """Flags that a shell splits at blanks, which is all it does to an unquoted variable."""
    for _, path in flags:
        if not path.is_file():
            raise (
                _nothing_in(path.parent.parent)
                if not path.parent.is_dir()
                else PkiError(f"there is no {path}", "make it: tunnelctl certs init")
            )
        if set(str(path)) & set(" \t\n*?["):
            raise PkiError(
                f"{path} has a blank or one of * ? [ in it, which a shell would take apart",
                "choose another directory with --dir, or give the flags by hand",
            )
    return " ".join(f"{flag}={path}" for flag, path in flags)


def _nothing_in(directory: Path) -> PkiError:
    return PkiError(
        f"there are no certificates in {directory}",
        "make them: tunnelctl certs init, or tunnelctl ns up for a lab and its certificates",
    )


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except PkiError as exc:
        raise click.ClickException(_text(exc)) from exc
    except OSError as exc:
        error = PkiError(f"{exc.filename}: {exc.strerror}", "choose another directory with --dir")
        raise click.ClickException(_text(error)) from exc


def _text(error: PkiError) -> str:
    return f"{error}\n  {error.hint}" if error.hint else str(error)
