"""``tunnelctl policy``: who may reach what."""

from typing import NoReturn

import click

from ctl import completing
from ctl.address import Address
from ctl.app import App, rows_of
from ctl.messages import EXIT_CODES, Message
from ctl.options import address, output_option
from ctl.output import print_json, print_line, print_note, print_table

_role_option = click.option(
    "--role", metavar="ROLE", shell_complete=completing.roles, help="The server or agent to ask."
)
_RULE_TITLES = ("RULE", "ACTION", "WHEN", "ALLOWED", "DENIED", "WOULD DENY")
_GRANT_TITLES = ("IDENTITY", "ID", "MAY CLAIM")
_KEYS = ("client", "agent", "host", "cidr", "port")


@click.group("policy")
def command() -> None:
    """Show and try the rules of servers and agents."""


@command.command("test")
@click.argument("destination", metavar="HOST:PORT", type=address)
@click.option(
    "--as", "client", metavar="CLIENT", required=True, help="cert:NAME, user:NAME, secret:NAME, …"
)
@click.option("--agent", metavar="ID", help="Through this agent only.")
@click.option("--address", "resolved", metavar="IP", default="", help="What the name resolves to.")
@_role_option
@output_option
@click.pass_obj
def test(
    app: App,
    destination: Address,
    client: str,
    agent: str | None,
    resolved: str,
    role: str | None,
) -> None:
    """Say whether a client may reach a destination, and which rule decides. Nothing is dialled.

    Exit code 5: it may not. Where that depends on the address of a name, the rules about it are
    shown; give an address with --address.
    """
    params = {
        "host": destination.host,
        "port": destination.port,
        "client": client,
        "agent": agent,
        "address": resolved,
        "role": role,
    }
    result = app.request("policy.test", params)
    if app.as_json:
        print_json(result)
    else:
        _print_verdicts(result)
    if result.get("decision") == "deny" and result.get("mode") != "shadow":
        _deny(result)


def _deny(result: Message) -> NoReturn:
    raise click.exceptions.Exit(EXIT_CODES["denied"])


def _print_verdicts(result: Message) -> None:
    what = f"{result.get('client')} → {result.get('destination')}"
    agents = rows_of(result, "agents")
    for verdict in agents or [result]:
        through = f" through {verdict.get('agent')}" if agents else ""
        decision = str(verdict.get("decision"))
        colour = {"allow": "green", "deny": "red"}.get(decision, "yellow")
        if decision == "depends":
            print_line(f"{what}{through}: depends on the address", colour)
            for clause in rows_of(verdict, "clauses"):
                print_line(f"  {clause.get('text')}  ({clause.get('rule')})")
        else:
            print_line(f"{what}{through}: {decision}, {verdict.get('rule')}", colour)
    if result.get("mode") == "shadow":
        print_note("shadow mode: what is denied here is allowed and logged")


@command.command("explain")
@_role_option
@output_option
@click.pass_obj
def explain(app: App, role: str | None) -> None:
    """Show the rules in the order in which they are asked, and how often each has decided."""
    result = app.request("policy.show", {"role": role})
    policies = rows_of(result, "policies")
    if app.as_json:
        for policy in policies:
            print_json(policy)
        return
    for number, policy in enumerate(policies):
        if number:
            print_line("")
        mode = ", shadow mode: denies nothing" if policy.get("mode") == "shadow" else ""
        is_open = ", open: everything is allowed" if policy.get("open") else ""
        print_line(f"role {policy.get('role')}{mode}{is_open}")
        print_table(_RULE_TITLES, [_rule_row(rule) for rule in rows_of(policy, "rules")])
        grants = rows_of(policy, "agents")
        if grants:
            print_table(_GRANT_TITLES, [_grant_row(grant) for grant in grants])


def _rule_row(rule: Message) -> tuple[object, ...]:
    when = "; ".join(f"{key} {_words(rule.get(key))}" for key in _KEYS if rule.get(key))
    counts = (rule.get(key, "-") for key in ("allowed", "denied", "would_deny"))
    return (rule.get("rule"), rule.get("action"), when or "always", *counts)


def _grant_row(grant: Message) -> tuple[object, ...]:
    claims = [f"{key} {_words(grant.get(key))}" for key in ("host", "cidr") if grant.get(key)]
    if grant.get("default_route"):
        claims.append("default-route")
    ids = _words(grant.get("id")) or "its own"
    return _words(grant.get("identity")), ids, "; ".join(claims) or "nothing"


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""
