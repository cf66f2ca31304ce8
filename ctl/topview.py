"""What ``tunnelctl top`` shows: one look at the daemon, as text or for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctl import cmd_agents, cmd_conns
from ctl.app import rows_of
from ctl.client import Client
from ctl.listing import Wanted, fetch_from
from ctl.messages import Message
from ctl.output import format_rate, format_size, print_line, print_table, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

SORTS = ("rate", "sent", "received", "queue", "stalled", "rtt", "age", "destination", "client")
_AGENTS = 8
"""Agents that are shown, the busiest; connections get the rest of the screen."""
_CHROME = 7
"""Lines of a screen that are neither an agent's nor a connection's."""
_CONN_COLUMNS = (0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14)
_AGENT_COLUMNS = (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)
_STALLED = "yellow"


@dataclass(frozen=True, slots=True)
class Order:
    """How connections are ordered."""

    sort: str = "rate"
    reverse: bool = False

    def next(self, step: int = 1) -> "Order":
        """By the next column."""
        return Order(SORTS[(SORTS.index(self.sort) + step) % len(SORTS)], self.reverse)

    def turned(self) -> "Order":
        """The other way round."""
        return Order(self.sort, not self.reverse)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the daemon."""

    agents: Message
    conns: Message
    order: Order

    @classmethod
    def take(cls, client: Client, order: Order, filters: dict[str, str], lines: int) -> "Look":
        """Ask the daemon for what fits on so many lines.

        Raises:
          ControlError: it refuses, or is gone.
        """
        of_agents = {name: value for name, value in filters.items() if name in ("role", "agent")}
        busiest = Wanted(of_agents, "rate", False, False)
        agents = fetch_from(client, "agents", busiest, _AGENTS)
        room = max(1, lines - _CHROME - len(rows_of(agents, "agents")))
        wanted = Wanted(filters, order.sort, order.reverse, False)
        return cls(agents, fetch_from(client, "conns", wanted, room), order)

    def summary(self) -> str:
        """The totals, in a line."""
        sums = self.conns.get("sums")
        sums = sums if isinstance(sums, dict) else {}
        rate = format_rate(sums.get("rate_sent", 0), sums.get("rate_received", 0)) or "0 B/s"
        return (
            f"{self.agents.get('total')} agents, {self.conns.get('total')} connections, "
            f"{sums.get('stalled', 0):.0f} stalled, {rate}, "
            f"{format_size(sums.get('queue', 0))} queued; "
            f"by {self.order.sort}{' reversed' if self.order.reverse else ''}"
        )

    def to_map(self) -> Message:
        """For JSON."""
        return {"agents": self.agents, "conns": self.conns}

    def agent_rows(self) -> list[list[object]]:
        """Cells of agents."""
        return [_pick(cmd_agents.cells_of(a), _AGENT_COLUMNS) for a in self._of("agents")]

    def conn_rows(self) -> list[list[object]]:
        """Cells of connections."""
        return [_pick(cmd_conns.cells_of(c), _CONN_COLUMNS) for c in self._of("conns")]

    def _of(self, what: str) -> list[Message]:
        return rows_of(self.agents if what == "agents" else self.conns, what)

    def print(self) -> None:
        """As plain text."""
        print_line(self.summary())
        print_table(AGENT_TITLES, self.agent_rows())
        print_line("")
        print_table(CONN_TITLES, self.conn_rows())

    def render(self) -> "RenderableType":
        """For a terminal."""
        from rich.console import Group
        from rich.text import Text

        return Group(
            Text(self.summary(), style="bold", no_wrap=True, overflow="ellipsis"),
            Text(""),
            _table(AGENT_TITLES, self.agent_rows()),
            Text(""),
            _table(CONN_TITLES, self.conn_rows()),
            Text("q quit   s/S order by   r reverse   space now", style="dim", no_wrap=True),
        )


def _pick(cells: Sequence[object], columns: Sequence[int]) -> list[object]:
    return [cells[column] for column in columns]


AGENT_TITLES = [str(title) for title in _pick(cmd_agents.TITLES, _AGENT_COLUMNS)]
CONN_TITLES = [str(title) for title in _pick(cmd_conns.TITLES, _CONN_COLUMNS)]


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=False, header_style="reverse")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in rows:
        style = _STALLED if "stalled" in row else ""
        # Names come from other machines: no markup, nothing that steers the terminal.
        cells = ["-" if cell in (None, "") else printable(str(cell)) for cell in row]
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table
