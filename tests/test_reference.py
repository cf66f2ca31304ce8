"""The tables of docs/reference say what the code does."""

import ast
import json
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from prometheus_client.metrics_core import Metric

from ctl import catalogue
from ctl.catalogue import DIALS
from ctl.cli import INTERRUPTED
from ctl.messages import EXIT_CODES, MAX_FRAME
from frames.grpc import MAX_MESSAGE
from frames.limits import Work
from frames.packet import PacketType
from tests.docpages import ROOT, read, tables_of
from tunneld import (
    config,
    configdiff,
    control,
    dialing,
    dialmethods,
    lifemethods,
    methods,
    metrics,
    packetstream,
    rh2,
    sharedchannel,
    viewmethods,
)
from tunneld.agent.link import PATIENCE
from tunneld.audit import line_of
from tunneld.caller import Caller
from tunneld.conns import Conn
from tunneld.events import Event
from tunneld.exposition import Family
from tunneld.metrics import make_registry
from tunneld.pings import ACK_TIMEOUT
from tunneld.server import http1
from tunneld.session import window_budget
from tunneld.telemetry import AgentTelemetry, ServerTelemetry

EXIT_PAGE = ROOT / "docs/reference/exit-codes.md"
ANYBODY = Caller("anonymous")
CONFIGURATION = ROOT / "docs/reference/configuration.md"
PROXY_PROGRAMS = ROOT / "docs/reference/proxy-programs.md"
KONNECTIVITY = ROOT / "docs/reference/konnectivity.md"
TABLES: dict[str, type[msgspec.Struct]] = {
    **{f'kind = "{kind}"': struct for kind, struct in config.KINDS.items()},
    "log": config.LogConfig,
    "admin": config.AdminConfig,
    "frontends": config.Frontend,
    "tunnel": config.TunnelListener,
    "forwards": config.Forward,
    "websocket": config.WebsocketListener,
    "limits": config.Limits,
    "limits.for": config.LimitsFor,
    "limits of an agent": config.AgentLimits,
    "policy": config.Policy,
    "policy.rules": config.Rule,
    "policy.agents": config.AgentGrant,
    "policy of an agent": config.DestinationPolicy,
}


def type_words(kind: Any) -> set[str]:
    """What the reference may call a type."""
    if get_origin(kind) in (UnionType, Union):  # something, or none
        kind = get_args(kind)[0]
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        tables = isinstance(of, type) and issubclass(of, msgspec.Struct)
        return {"array of tables" if tables else "array of texts"}
    if get_origin(kind) is Literal:
        return {"text"}
    if kind is int:
        return {"number"}
    if kind is bool:
        return {"boolean"}
    if kind is str:
        return {"text", "file", "address"}
    if (isinstance(kind, type) and issubclass(kind, msgspec.Struct)) or get_origin(kind) is dict:
        return {"table"}
    return {"seconds", "number"}


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "none"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, msgspec.Struct):
        return "see below"
    if isinstance(value, bool | tuple):
        return msgspec.json.encode(value).decode()
    return value if isinstance(value, str) and value else '""' if value == "" else str(value)


@pytest.mark.parametrize("title", TABLES)
def test_the_configuration_reference_has_every_key(title: str) -> None:
    rows = tables_of(CONFIGURATION)[title]
    common = {"name", "namespace"}
    fields = [f for f in msgspec.structs.fields(TABLES[title]) if f.encode_name not in common]
    assert [row[0] for row in rows] == [field.encode_name for field in fields]
    assert [row[2] for row in rows] == [default_of(field) for field in fields]
    for row, field in zip(rows, fields, strict=True):
        assert row[1] in type_words(field.type), row


def test_the_reference_says_what_takes_a_restart() -> None:
    rows = {row[0]: row[1] for row in tables_of(CONFIGURATION)["What a reload does"]}
    for name in ("server", "agent"):
        kind = config.KINDS[name]
        live = configdiff.LIVE[kind]
        fields = [each for each in msgspec.structs.fields(kind) if each.name not in live]
        built_in = {each.encode_name for each in fields} - {"name"}
        assert set(re.findall(r"`([a-z-]+)`", f"`{rows[name]}`")) == built_in
    text = read(CONFIGURATION)
    for dotted in configdiff.LIVE[config.ServerConfig]:
        _table, _, key = dotted.partition(".")
        assert not key or f"`{key.replace('_', '-')}`" in text[text.index("Of `frontends`, `tun") :]


def test_the_kinds_of_failed_dials_are_in_the_reference() -> None:
    rows = tables_of(ROOT / "docs/reference/tunnel-protocol.md")["5. Dial"]
    kinds = [value for value in vars(dialing).values() if isinstance(value, dialing.Kind)]
    documented = {(int(row[0]), row[1], row[2]) for row in rows}
    assert documented == {(kind.status, kind.error, kind.code) for kind in kinds}


def test_the_numbers_of_the_tunnel_protocol_are_those_of_the_code() -> None:
    tables = tables_of(ROOT / "docs/reference/tunnel-protocol.md")
    settings = {row[0]: row[1:] for row in tables["2. Roles and settings"]}
    for setting, value in rh2.SETTINGS.items():
        assert settings[getattr(setting, "name", "")] == [str(value), str(value)]
    assert settings["MAX_HEADER_LIST_SIZE"] == [str(rh2.LIMITS.max_header_list)] * 2
    assert settings["MAX_CONCURRENT_STREAMS"] == ["", str(rh2.LIMITS.max_concurrent_streams)]
    text = read(ROOT / "docs/reference/tunnel-protocol.md")
    assert f"{rh2.RECEIVE_WINDOW} octets" in text
    assert f"up to {rh2.LIMITS.max_window} octets" in text
    limits = " ".join(row[1] for row in tables["10. Limits"])
    for limit in (
        rh2.LIMITS.max_concurrent_streams,
        rh2.LIMITS.max_header_block,
        rh2.LIMITS.max_continuations,
        rh2.LIMITS.max_settings,
        rh2.LIMITS.max_queued_replies,
        rh2.LIMITS.max_unsent,
    ):
        assert str(limit) in limits


def test_the_allowances_of_the_tunnel_protocol_are_those_of_the_code() -> None:
    rows = tables_of(ROOT / "docs/reference/tunnel-protocol.md")["Allowances"]
    rates = dict(rh2.LIMITS.rates)
    documented = sorted((int(row[1]), int(row[2])) for row in rows)
    assert documented == sorted((rates[work].burst, rates[work].per_second) for work in Work)


def test_the_window_budget_is_as_explained() -> None:
    text = read(ROOT / "docs/explanation/flow-control.md")
    assert f"budget of {window_budget.left >> 20} MiB" in text


def test_the_limits_of_the_control_protocol_are_those_of_the_code() -> None:
    rows = tables_of(ROOT / "docs/reference/control-protocol.md")["Limits"]
    assert [row[1] for row in rows] == [
        str(control.MAX_CONNECTIONS),
        str(control.MAX_REQUESTS),
        f"{control.HELLO_TIMEOUT:g} s",
        f"{control.FRAME_TIMEOUT:g} s",
        f"{MAX_FRAME} octets",
    ]


def codes_raised() -> set[str]:
    """First arguments of every `ControlError(…)` and its like in the sources."""
    makers = {"ControlError", "NetnsError", "DialError"}
    found = {kind.code for kind in vars(dialing).values() if isinstance(kind, dialing.Kind)}
    for package in ("ctl", "tunneld", "netns"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                first = node.args[0]
                if name in makers and isinstance(first, ast.Constant) and first.value:
                    found.add(str(first.value))
    return found


def test_every_error_code_is_in_the_catalogue() -> None:
    assert {error.code for error in catalogue.errors()} == codes_raised() | set(EXIT_CODES)


def test_the_catalogue_has_each_kind_of_failed_dial_as_servers_reply_to_it() -> None:
    kinds = [value for value in vars(dialing).values() if isinstance(value, dialing.Kind)]
    replies = {(each.code, each.reply.status, each.reply.error) for each in DIALS if each.reply}
    assert replies == {(kind.code, kind.status, kind.error) for kind in kinds}


def test_exit_codes_are_in_the_reference() -> None:
    (rows,) = (rows for rows in tables_of(EXIT_PAGE).values() if rows)
    assert {int(row[0]) for row in rows} == {0, 1, INTERRUPTED, *EXIT_CODES.values()}


def test_every_event_is_in_the_reference() -> None:
    (rows,) = (rows for rows in tables_of(ROOT / "docs/reference/events.md").values() if rows)
    assert [row[0] for row in rows] == [str(event) for event in Event]


async def test_every_member_of_the_audit_is_in_the_reference() -> None:
    tables = tables_of(ROOT / "docs/reference/audit.md")
    documented = [row[0] for rows in tables.values() for row in rows]
    line = json.loads(line_of(Conn(ANYBODY, "db:5432", "home"), "edge", "server"))
    assert documented[: len(line)] == list(line)
    endings = ["closed", "reset", "failed", "killed", "expired", "cancelled", "error"]
    assert documented[len(line) :] == endings


def test_every_metric_of_the_daemon_is_in_the_reference() -> None:
    rows = tables_of(ROOT / "docs/reference/metrics.md")["Metrics of the daemon"]
    documented = {(row[0], row[1]) for row in rows}
    found: set[tuple[str, str]] = set()
    for file in ("rolemetrics", "scrape", "audit", "server/servermetrics", "agent/linkcheck"):
        source = (ROOT / f"tunneld/{file}.py").read_text("utf-8")
        made = r'metric\(\s*"(tunneld_\w+)",\s*"(\w+)"'
        found |= set(re.findall(made, source))
    assert documented == found


def test_the_alerts_are_about_metrics_that_there_are() -> None:
    rows = tables_of(ROOT / "docs/reference/metrics.md")["Metrics of the daemon"]
    text = read(ROOT / "docs/how-to/observe.md")
    rules = text[text.index("```yaml") :]
    assert set(re.findall(r"tunneld_\w+", rules)) <= {row[0] for row in rows}


def test_every_control_method_is_in_the_reference() -> None:
    rows = tables_of(ROOT / "docs/reference/control-protocol.md")["Methods"]
    table: dict[str, Any] = {}
    for module in (methods, dialmethods, lifemethods, viewmethods):
        source = Path(str(module.__file__)).read_text("utf-8")
        found = re.findall(r'^ +"([\w.]+)": Method\(\s*(\w+),', source, flags=re.MULTILINE)
        table |= {name: getattr(module, params) for name, params in found}
    assert {row[0] for row in rows} == set(table)
    for row in rows:
        fields = msgspec.structs.fields(table[row[0]])
        wanted = [field.name if field.required else f"{field.name}?" for field in fields]
        assert sorted(re.findall(r"[\w?]+", row[1])) == sorted(wanted), row


@pytest.mark.parametrize(
    ("title", "telemetry"),
    [("Of proxy-server", ServerTelemetry()), ("Of proxy-agent", AgentTelemetry())],
)
def test_every_metric_is_in_the_reference(
    title: str, telemetry: ServerTelemetry | AgentTelemetry
) -> None:
    rows = tables_of(PROXY_PROGRAMS)[title]
    documented = {(row[0].removesuffix("_total"), row[1]) for row in rows}
    shown = {(each.name.removesuffix("_total"), each.type) for each in metrics_of(telemetry)}
    assert documented == shown


def metrics_of(telemetry: ServerTelemetry | AgentTelemetry) -> list[Metric]:
    """All but what every Python program has."""
    found = make_registry(telemetry).collect()
    return [each for each in found if not each.name.startswith(("process_", "python_"))]


@pytest.mark.parametrize(
    ("title", "prefix", "families"),
    [
        ("Of proxy-server", metrics.SERVER_PREFIX, metrics.SERVER_FAMILIES),
        ("Of proxy-agent", metrics.AGENT_PREFIX, metrics.AGENT_FAMILIES),
    ],
)
def test_the_labels_of_metrics_are_in_the_reference(
    title: str, prefix: str, families: tuple[Family, ...]
) -> None:
    labels = {row[0]: re.findall(r"\w+", row[2]) for row in tables_of(PROXY_PROGRAMS)[title]}
    for family in families:
        assert labels[prefix + family.name] == list(family.labels)


def test_the_reasons_of_failed_dials_are_in_the_reference() -> None:
    rows = tables_of(PROXY_PROGRAMS)["Reasons of failed dials"]
    assert {row[0] for row in rows} == set(ServerTelemetry().dial_failure_count)


def test_the_packets_of_konnectivity_are_those_of_the_code() -> None:
    rows = tables_of(KONNECTIVITY)["2. Packets"]
    assert {row[1]: int(row[0]) for row in rows} == PacketType.__members__


def test_the_limits_of_konnectivity_s_protocol_are_those_of_the_code() -> None:
    limits = [row[1] for row in tables_of(KONNECTIVITY)["12. Limits"]]
    assert limits[:4] == [
        f"{MAX_MESSAGE} octets",
        f"{packetstream.MAX_DATA} octets",
        f"{sharedchannel.MAX_QUEUE}",
        f"{sharedchannel.queue_budget.left}",
    ]
    assert f"{http1.MAX_HEAD} octets" in limits
    assert limits[-2:] == [f"{ACK_TIMEOUT:g} s", f"{PATIENCE:g} s"]
