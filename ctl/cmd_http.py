"""``tunnelctl http``: one HTTP request through the tunnel."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from ctl.app import App
from ctl.dialling import Dialled
from ctl.messages import ControlError
from ctl.options import dial_options
from ctl.output import print_line, print_note

Note = Callable[[str], None]

_FIRST_ERROR = 400


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header; expected one as in 'Accept: text/html'")
    return name.strip(), value.strip()


def _body(text: str) -> bytes:
    if text == "@-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as exc:
            raise click.BadParameter(f"{text[1:]}: {exc.strerror}") from exc
    return text.encode("utf-8", "surrogateescape")


@click.command("http")
@click.argument("url")
@click.option("-X", "--request", "method", metavar="METHOD", help="Method  [GET; POST with data].")
@click.option("-H", "--header", "headers", type=_header, multiple=True, metavar="'NAME: VALUE'")
@click.option("-d", "--data", "body", type=_body, metavar="TEXT|@FILE|@-", help="Body to send.")
@click.option("-i", "--include", is_flag=True, help="Print the response's head too.")
@click.option("-v", "--verbose", is_flag=True, help="Show the hops and both heads, on stderr.")
@click.option("--fail", is_flag=True, help="Exit with 1, and no body, for a status from 400 on.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest silence of the endpoint.",
)
@click.option(
    "--cacert",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="CA of an https endpoint  [the system's].",
)
@click.option(
    "-k", "--insecure", is_flag=True, help="Do not check an https endpoint's certificate."
)
@dial_options
@click.pass_obj
def command(
    app: App,
    url: str,
    method: str | None,
    headers: tuple[tuple[str, str], ...],
    body: bytes | None,
    include: bool,
    verbose: bool,
    fail: bool,
    timeout: float,
    cacert: str | None,
    insecure: bool,
) -> None:
    """Send an HTTP request to an endpoint and print the answer's body.

    Names are resolved by the agent, in its network.
    """
    from ctl.http_exchange import Exchange, Request, open_tls, parse_url

    try:
        parsed = parse_url(url)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="'URL'") from exc
    note = print_note if verbose else _say_nothing
    with app.dialer() as dialer:
        started = time.monotonic()
        dialled = dialer.dial(parsed.address)
        _note_hops(note, dialled, time.monotonic() - started)
        sock = dialled.sock
        sock.settimeout(timeout)
        if parsed.scheme == "https":
            sock = open_tls(sock, parsed.address.host, cacert, insecure)
        with sock:
            request = Request(method or ("GET" if body is None else "POST"), headers, body)
            exchange = Exchange(sock, parsed, request)
            _note_lines(note, ">", exchange.send().lines())
            head = exchange.receive_head()
            _note_lines(note, "<", head.lines())
            if include:
                _print_head(head.lines())
            if fail and head.status >= _FIRST_ERROR:
                raise ControlError("failed", f"the endpoint answered {head.line}")
            _print_body(exchange.body())


def _say_nothing(_text: str) -> None:
    pass


def _note_hops(note: Note, dialled: Dialled, seconds: float) -> None:
    note(f"* connected in {seconds * 1000:.1f} ms: {' → '.join(['tunnelctl', *dialled.hops])}")


def _note_lines(note: Note, mark: str, lines: Iterable[str]) -> None:
    for line in [*lines, ""]:
        note(f"{mark} {line}".rstrip())


def _print_head(lines: Iterable[str]) -> None:
    for line in [*lines, ""]:
        print_line(line)


def _print_body(chunks: Iterable[bytes]) -> None:
    sys.stdout.flush()
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
