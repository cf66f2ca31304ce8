"""``tunnelctl explain``: what an error code means, and what to do."""

from dataclasses import asdict

import click

from ctl.app import App
from ctl.catalogue import REASONS, Error, errors, find
from ctl.messages import ControlError, Message
from ctl.options import output_option
from ctl.output import print_json, print_line, print_table

_TITLES = ("CODE", "EXIT", "STATUS", "PROXY-STATUS", "MEANING")


def _codes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [each.code for each in _all() if each.code.startswith(incomplete)]


@click.command("explain")
@click.argument("code", required=False, metavar="[CODE]", shell_complete=_codes)
@output_option
@click.pass_context
def command(ctx: click.Context, code: str | None) -> None:
    """Explain an error code: meaning, causes, and what to do.

    CODE is what stands in error[CODE]; or an error of proxy-status, a reason of TLS such as
    TLSV1_ALERT_UNKNOWN_CA, an HTTP status, or an exit code. Without one, all are listed.
    """
    app = ctx.ensure_object(App)
    found = _all() if code is None else find(code)
    if not found:
        raise ControlError("not_found", f"no error {code!r}", _suggestion(str(code)))
    if app.as_json:
        for each in found:
            print_json(_as_map(each))
    elif code is None:
        print_table(_TITLES, map(_row, found))
    else:
        for index, each in enumerate(found):
            if index:
                print_line("")
            _print(each)


def _all() -> list[Error]:
    return [*errors(), *REASONS]


def _row(error: Error) -> tuple[object, ...]:
    reply = error.reply
    return (
        error.code,
        None if error in REASONS else error.exit_code,
        reply and reply.status,
        reply and reply.error,
        _plain(error.meaning),
    )


def _print(error: Error) -> None:
    print_line(f"{error.code}: {_plain(error.meaning)}")
    print_line(f"  arises at     {error.where}")
    if error not in REASONS:
        print_line(f"  exit code     {error.exit_code}")
    if error.reply is not None:
        print_line(f"  HTTP status   {error.reply.status}, proxy-status error={error.reply.error}")
    if error.aliases:
        print_line(f"  also          {', '.join(error.aliases)}")
    for cause in error.causes:
        print_line(f"  {_plain(cause.seen)}")
        print_line(f"    -> {_plain(cause.action)}")


def _as_map(error: Error) -> Message:
    kind = "reason" if error in REASONS else "error"
    exit_code = None if error in REASONS else error.exit_code
    return {"kind": kind, **asdict(error), "exit_code": exit_code}


def _plain(text: str) -> str:
    return text.replace("`", "").replace("*", "")


def _suggestion(code: str) -> str:
    import difflib

    names = {each.code.lower(): each.code for each in _all()}
    close = difflib.get_close_matches(code.lower(), names, 1)
    more = "all of them: tunnelctl explain"
    return f"did you mean {names[close[0]]}? {more}" if close else more
