import gc
import socket

from tunneld.openlisteners import OpenListeners


def test_sockets_are_known_until_they_are_closed() -> None:
    listeners = OpenListeners()
    with socket.socket() as first, socket.socket() as second:
        listeners.add("a:1", first)
        listeners.add("a:1", second)
        assert list(listeners) == [("a:1", first.fileno()), ("a:1", second.fileno())]
        first.close()
        assert list(listeners) == [("a:1", second.fileno())]
        with socket.socket() as third:
            listeners.add("b:2", third)
            assert [address for address, _ in listeners] == ["a:1", "b:2"]


class Forgotten:
    def fileno(self) -> int:
        return 0


def test_a_forgotten_socket_is_no_listener() -> None:
    listeners = OpenListeners()
    listeners.add("a:1", Forgotten())
    gc.collect()
    assert list(listeners) == []
