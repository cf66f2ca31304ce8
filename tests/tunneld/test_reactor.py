"""The loop: who is served, in which order, and that nothing of a handler ends it."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.reactor import EPOLLIN, EPOLLOUT, Reactor


@pytest.fixture
async def reactor(nursery: trio.Nursery) -> AsyncIterator[Reactor]:
    made = Reactor()
    scope = await nursery.start(run, made)
    yield made
    scope.cancel()
    await wait_all_tasks_blocked()
    made.close()


async def run(reactor: Reactor, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await reactor.run()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair()
    yield first, second
    first.close()
    second.close()


class Recorder:
    """Notes what it is called for; reads what comes."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.sock = sock
        self.calls: list[str] = []
        self.on_call: Callable[[str], None] = lambda call: None

    def on_ready(self, events: int) -> None:
        octets = self.sock.recv(100) if self.sock is not None and events & EPOLLIN else b""
        self._note(f"ready {octets.decode()}")

    def flush(self) -> None:
        self._note("flush")

    def fail(self, error: Exception) -> None:
        self.calls.append(f"fail {error}")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.on_call(call)


async def test_a_ready_descriptor_is_served(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    handler = Recorder(ours)
    reactor.register(ours.fileno(), handler, EPOLLIN)
    await wait_all_tasks_blocked()
    assert handler.calls == []
    theirs.send(b"one")
    await wait_all_tasks_blocked()
    theirs.send(b"two")
    await wait_all_tasks_blocked()
    assert handler.calls == ["ready one", "ready two"]
    assert reactor.served == 1
    reactor.unregister(ours.fileno())
    theirs.send(b"three")
    await wait_all_tasks_blocked()
    assert len(handler.calls) == 2
    assert reactor.served == 0


async def test_interest_can_be_changed(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    handler = Recorder(ours)
    reactor.register(ours.fileno(), handler, 0)
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert handler.calls == []
    reactor.modify(ours.fileno(), EPOLLIN)
    await wait_all_tasks_blocked()
    assert handler.calls == ["ready x"]
    reactor.unregister(ours.fileno())


async def test_what_a_turn_produced_goes_out_once_when_it_ends(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    order: list[str] = []
    tunnel, handler = Recorder(), Recorder(ours)

    def produce(call: str) -> None:
        reactor.mark_dirty(tunnel)
        reactor.at_turn_end(lambda: order.append("closed"))
        order.append("served")

    handler.on_call = produce
    tunnel.on_call = order.append
    reactor.register(ours.fileno(), handler, EPOLLIN)
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert order == ["served", "flush", "closed"]
    reactor.unregister(ours.fileno())


async def test_outside_of_turns_it_goes_out_at_once(reactor: Reactor) -> None:
    tunnel = Recorder()
    reactor.mark_dirty(tunnel)
    assert tunnel.calls == ["flush"]
    closed: list[bool] = []
    reactor.at_turn_end(lambda: closed.append(True))
    assert closed == [True]


async def test_a_flush_may_make_others_flush(reactor: Reactor) -> None:
    first, second = Recorder(), Recorder()
    first.on_call = lambda call: reactor.mark_dirty(second)
    reactor.mark_dirty(first)
    assert second.calls == ["flush"]


async def test_work_for_the_next_turn_wakes_it_up(reactor: Reactor) -> None:
    await wait_all_tasks_blocked()
    done: list[int] = []

    def again() -> None:
        done.append(len(done))
        if len(done) < 3:
            reactor.call_next_turn(Recorder(), again)

    reactor.call_next_turn(Recorder(), again)
    assert done == []
    await wait_all_tasks_blocked()
    assert done == [0, 1, 2]


async def test_an_error_ends_the_handler_not_the_loop(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    def break_down(call: str) -> None:
        raise ZeroDivisionError(call)

    handler = Recorder(ours)
    handler.on_call = break_down
    reactor.register(ours.fileno(), handler, EPOLLIN)
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    reactor.mark_dirty(handler)
    reactor.call_next_turn(handler, lambda: break_down("later"))
    await wait_all_tasks_blocked()
    assert handler.calls == ["ready x", "fail ready x", "flush", "fail flush", "fail later"]
    other: list[bool] = []
    reactor.call_next_turn(Recorder(), lambda: other.append(True))
    await wait_all_tasks_blocked()
    assert other == [True]
    reactor.unregister(ours.fileno())


async def test_a_handler_that_cannot_even_fail_is_served_no_more(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    class Hopeless(Recorder):
        def on_ready(self, events: int) -> None:
            raise ZeroDivisionError("ready")

        def fail(self, error: Exception) -> None:
            raise ZeroDivisionError("fail")

    ours, theirs = pair
    reactor.register(ours.fileno(), Hopeless(), EPOLLIN)
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert reactor.served == 0


async def test_an_action_that_fails_at_the_end_of_a_turn_stops_no_other(reactor: Reactor) -> None:
    def fail() -> None:
        raise OSError("cannot close")

    reactor.at_turn_end(fail)
    closed: list[bool] = []
    reactor.at_turn_end(lambda: closed.append(True))
    assert closed == [True]


async def test_a_number_given_anew_in_mid_turn_gets_no_old_event(reactor: Reactor) -> None:
    """Both pairs are ready in one turn; the first handler closes the other's descriptor."""
    pairs = [socket.socketpair() for _ in range(2)]
    handlers = [Recorder(ours) for ours, _ in pairs]

    def close_other(number: int) -> Callable[[str], None]:
        def act(call: str) -> None:
            other = pairs[1 - number][0]
            if other.fileno() in reactor._handlers:
                reactor.unregister(other.fileno())
                reactor.at_turn_end(other.close)

        return act

    for number, (ours, theirs) in enumerate(pairs):
        handlers[number].on_call = close_other(number)
        theirs.send(b"x")
        reactor.register(ours.fileno(), handlers[number], EPOLLIN)
    await wait_all_tasks_blocked()
    assert sorted(len(handler.calls) for handler in handlers) == [0, 1]
    assert sorted(ours.fileno() for ours, _ in pairs)[0] == -1
    for ours, theirs in pairs:
        if ours.fileno() >= 0:
            reactor.unregister(ours.fileno())
        ours.close()
        theirs.close()


async def test_other_tasks_run_however_busy_the_sockets_are(reactor: Reactor) -> None:
    """A descriptor that is always ready; so the reactor never parks."""
    descriptor = os.eventfd(0)
    busy = Recorder()
    reactor.register(descriptor, busy, EPOLLOUT)
    for _ in range(5):
        await trio.lowlevel.checkpoint()
    assert busy.calls
    reactor.unregister(descriptor)
    os.close(descriptor)


async def test_it_serves_again_after_it_was_idle_in_a_burst(
    reactor: Reactor, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Dense traffic makes it look for more before it parks; nothing may be lost on the way."""
    ours, theirs = pair
    handler = Recorder(ours)
    reactor.register(ours.fileno(), handler, EPOLLIN)
    for number in range(300):
        theirs.send(b"%d" % number)
        while len(handler.calls) <= number:
            await trio.lowlevel.checkpoint()
    assert handler.calls == [f"ready {number}" for number in range(300)]
    reactor.unregister(ours.fileno())


# -- timers -----------------------------------------------------------------------------------


class Clockwork:
    """Notes when it is called."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.calls: list[tuple[str, float]] = []
        self.errors: list[str] = []
        self.begun = trio.current_time()

    def call(self, name: str, delay: float) -> None:
        self.reactor.call_later(delay, self, lambda: self.note(name))

    def note(self, name: str) -> None:
        self.calls.append((name, round(trio.current_time() - self.begun, 3)))

    def fail(self, error: Exception) -> None:
        self.errors.append(str(error))


async def test_timers_are_due_in_their_order(reactor: Reactor, autojump_clock: MockClock) -> None:
    clockwork = Clockwork(reactor)
    for name, delay in (("late", 3), ("first of two", 2), ("second of two", 2), ("soon", 1)):
        clockwork.call(name, delay)
    await trio.sleep(10)
    assert clockwork.calls == [("soon", 1), ("first of two", 2), ("second of two", 2), ("late", 3)]


async def test_a_timer_that_is_due_before_all_others_is_not_late(
    reactor: Reactor, autojump_clock: MockClock
) -> None:
    clockwork = Clockwork(reactor)
    clockwork.call("late", 100)
    await trio.sleep(1)
    clockwork.call("soon", 1)
    await trio.sleep(10)
    assert clockwork.calls == [("soon", 2)]


async def test_a_timer_may_set_the_next(reactor: Reactor, autojump_clock: MockClock) -> None:
    clockwork = Clockwork(reactor)

    def tick() -> None:
        clockwork.note("tick")
        reactor.call_later(1, clockwork, tick)

    tick()
    await trio.sleep(3.5)
    assert clockwork.calls == [("tick", 0), ("tick", 1), ("tick", 2), ("tick", 3)]


async def test_no_delay_is_the_next_turn(reactor: Reactor, autojump_clock: MockClock) -> None:
    clockwork = Clockwork(reactor)
    clockwork.call("at once", 0)
    assert clockwork.calls == []
    await wait_all_tasks_blocked()
    assert clockwork.calls == [("at once", 0)]


async def test_a_timer_that_fails_ends_its_unit_alone(
    reactor: Reactor, autojump_clock: MockClock
) -> None:
    clockwork, other = Clockwork(reactor), Clockwork(reactor)

    def fail() -> None:
        raise ZeroDivisionError("broken")

    reactor.call_later(1, clockwork, fail)
    other.call("unharmed", 1)
    await trio.sleep(2)
    assert clockwork.errors == ["broken"]
    assert other.calls == [("unharmed", 1)]


async def test_timers_may_be_set_before_it_runs(autojump_clock: MockClock) -> None:
    reactor = Reactor()
    clockwork = Clockwork(reactor)
    clockwork.call("early", 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(reactor.run)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    reactor.close()
    assert clockwork.calls == [("early", 1)]


async def test_a_timer_that_is_called_off_runs_nothing_and_holds_nobody(
    reactor: Reactor, autojump_clock: MockClock
) -> None:
    clockwork = Clockwork(reactor)
    ran: list[str] = []
    timer = reactor.call_later(1, clockwork, lambda: ran.append("called off"))
    reactor.call_later(2, clockwork, lambda: ran.append("due"))
    timer.cancel()
    timer.cancel()
    assert (timer.unit, timer.action) == (None, None)
    await trio.sleep(3)
    assert ran == ["due"]
