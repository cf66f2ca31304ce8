"""Proves the shape of a lab that is up: `python -m netns.check DIRECTORY`.

Uses its own probes (`netns.probe`) from inside of the namespaces, so it needs no ping, no nslookup
and nobody that listens. Items and result: see `netns.argv.check_argv`.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from netns import kernel, program
from netns.dns import RecordType
from netns.errors import NetnsError
from netns.journal import Mode
from netns.lab import Lab, LabNamespace, LabState, read_lab
from netns.mark import is_marked, token_of
from netns.probe import Outcome, accepted_from, ask_name, connect, listening, ping
from netns.spaces import addresses_here, mark_here
from netns.sysctl import forwards_here
from netns.topology import Address, Probe

_ANSWER_TIME = 3.0
"""Seconds within which what answers does so, on links without delay."""
_SILENCE = 0.3
"""Seconds after which what has not answered does not, on links without delay."""
_LOCAL_RESOLVER = IPv4Address("127.0.0.1")
"""resolv.conf(5): the server that is asked where the file names none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One proven, or refuted, fact; ``ok`` is None for what could not be tried."""

    check: str
    ok: bool | None
    detail: str


def check_lab(lab: Lab) -> Iterator[Row]:
    """Check it, row by row. Moves the calling thread into the lab's namespaces for good.

    Raises:
      NetnsError: ``not_found``: the lab is not up.
    """
    if lab.state is not LabState.UP:
        raise NetnsError(
            "not_found", f"the lab {lab.name!r} is not up but {lab.state}", "bring it up first"
        )
    if lab.mode is Mode.ROOTLESS:
        kernel.enter(f"/proc/{lab.pid}/ns/user", kernel.CLONE_NEWUSER)
        kernel.enter(f"/proc/{lab.pid}/ns/mnt", kernel.CLONE_NEWNS)
    checker = _Checker(lab)
    for space in lab.namespaces:
        yield checker.namespace(space)
    for probe in lab.topology.probes:
        yield from checker.probe(probe)
    for name, addresses in lab.topology.records.items():
        yield from checker.name(name, addresses)


class _Checker:
    """The lab, and how long its links take."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        # Each way over every link, twice: a connection takes more than one round trip.
        delay = 4 * sum(link.shape.delay for link in lab.topology.links if link.shape)
        self.answer_time = _ANSWER_TIME + delay
        self.silence = _SILENCE + delay

    def namespace(self, space: LabNamespace) -> Row:
        """Is it there, ours, and as the topology says?"""
        self._visit(space)
        wanted = self.lab.topology.namespace(space.name).forwards
        missing = set(space.addresses) - addresses_here()
        faults = [
            *([] if is_marked(mark_here(), token_of(self.lab.directory)) else ["not ours"]),
            *(f"without {address}" for address in sorted(missing)),
            *([] if forwards_here() == wanted else [f"forwarding is {'off' if wanted else 'on'}"]),
        ]
        detail = ", ".join([*space.addresses, *(["forwards"] if wanted else [])])
        return Row(f"{space.full_name} stands", not faults, "; ".join(faults) or detail)

    def probe(self, probe: Probe) -> Iterator[Row]:
        """Does the target answer as it should, by ICMP and by TCP?"""
        what = "reaches" if probe.answers else "does not reach"
        timeout = self.answer_time if probe.answers else self.silence
        source, target = self._space(probe.source), self._at(probe.target)
        title = f"{source.full_name} {what} {_title(target, probe.target)}"
        self._visit(source)
        yield _row(f"{title} by ICMP", ping(probe.target, timeout), probe.answers)
        if target is None:
            return
        # We listen there, so that a refusal is the network's and not for want of a listener.
        self._visit(target)
        with listening(probe.target) as listener:
            self._visit(source)
            outcome = connect(probe.target, listener.getsockname()[1], timeout)
            yield _row(f"{title} by TCP", outcome, probe.answers)
            if probe.seen_as is not None:
                seen = accepted_from(listener, timeout if outcome.answered else 0.0)
                yield Row(
                    f"{target.full_name} sees {source.full_name} as {probe.seen_as}",
                    seen == probe.seen_as,
                    f"saw {seen}" if seen else "saw nobody",
                )

    def name(self, name: str, addresses: Iterable[Address]) -> Iterator[Row]:
        """Does it resolve where there are nameservers, and in no other host?"""
        for space in self.lab.namespaces:
            self._visit(space)
            namespace = self.lab.topology.namespace(space.name)
            if namespace.nameservers:
                yield self._resolves(space, name, namespace.nameservers, addresses)
            elif not namespace.forwards:
                yield self._does_not_resolve(space, name)

    def _resolves(
        self,
        space: LabNamespace,
        name: str,
        servers: tuple[IPv4Address, ...],
        addresses: Iterable[Address],
    ) -> Row:
        title = f"{name} resolves in {space.full_name}"
        found: set[Address] = set()
        wanted = set(addresses)
        for record_type in {_record_type(address) for address in wanted}:
            answer = next(
                filter(None, (ask_name(at, name, record_type, self.answer_time) for at in servers)),
                None,
            )
            if answer is None:
                return Row(title, None, f"no DNS server answers at {_list(servers)}")
            found.update(answer.addresses)
        return Row(
            title, found == wanted, f"{_list(servers)} says {_list(found) or 'no such name'}"
        )

    def _does_not_resolve(self, space: LabNamespace, name: str) -> Row:
        title = f"{name} does not resolve in {space.full_name}"
        # What libc would ask, and the servers that the topology puts out of reach from here.
        asked = [_LOCAL_RESOLVER, *self._servers_out_of_reach(space)]
        for server in asked:
            answer = ask_name(server, name, RecordType.A, self.silence)
            if answer is not None and answer.addresses:
                return Row(title, False, f"{server} says {_list(answer.addresses)}")
        return Row(title, True, f"no answer from {_list(asked)}")

    def _servers_out_of_reach(self, space: LabNamespace) -> list[IPv4Address]:
        servers = {at for other in self.lab.topology.namespaces for at in other.nameservers}
        return sorted(
            probe.target
            for probe in self.lab.topology.probes
            if probe.source == space.name and not probe.answers and probe.target in servers
        )

    def _visit(self, space: LabNamespace) -> None:
        kernel.enter(space.path, kernel.CLONE_NEWNET)

    def _space(self, name: str) -> LabNamespace:
        return next(space for space in self.lab.namespaces if space.name == name)

    def _at(self, address: IPv4Address) -> LabNamespace | None:
        for end in self.lab.topology.ends():
            if end.address.ip == address:
                return self._space(end.namespace)
        return None


def _row(title: str, outcome: Outcome, wanted: bool) -> Row:
    return Row(title, outcome.answered is wanted, outcome.detail)


def _title(space: LabNamespace | None, address: IPv4Address) -> str:
    return str(address) if space is None else f"{space.full_name} ({address})"


def _record_type(address: Address) -> RecordType:
    return RecordType.A if address.version == 4 else RecordType.AAAA


def _list(values: Iterable[object]) -> str:
    return ", ".join(sorted(str(value) for value in values))


def _run(directory: Path) -> None:
    lab = read_lab(directory.resolve())
    if lab is None:
        raise NetnsError("not_found", f"there is no lab in {directory}", "bring it up first")
    ok = True
    for row in check_lab(lab):
        ok = ok and row.ok is not False
        program.emit_item(asdict(row))
    program.emit("result", {"ok": ok})


if __name__ == "__main__":
    sys.exit(program.main(_run, sys.argv[1:]))
