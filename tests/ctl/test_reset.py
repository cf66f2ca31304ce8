import socket
from pathlib import Path

from ctl.reset import receive_into, send_reset


def receive_all(sock: socket.socket, size: int = 65536) -> tuple[bytes, bool]:
    """Everything up to the end, and whether that is a reset."""
    buffer = memoryview(bytearray(size))
    data = b""
    while True:
        octets, is_reset = receive_into(sock, buffer)
        data += buffer[:octets]
        if is_reset or not octets:
            return data, is_reset


def test_a_reset_comes_behind_the_data_and_adds_nothing_to_it() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"half an ans")
        send_reset(ours)
        ours.close()
        assert receive_all(theirs) == (b"half an ans", True)
        assert theirs.recv(1) == b""


def test_a_reset_may_come_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_reset(ours)
        assert receive_all(theirs) == (b"", True)


def test_an_end_is_no_reset_and_zero_octets_are_data() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(bytes(1000))
        ours.close()
        assert receive_all(theirs, 64) == (bytes(1000), False)


def test_a_reset_fits_behind_a_full_send_buffer_without_blocking() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        sent = 0
        try:
            while True:
                sent += ours.send(b"x" * 65536)
        except BlockingIOError:
            pass
        ours.setblocking(True)
        send_reset(ours)
        ours.close()
        data, is_reset = receive_all(theirs)
        assert (len(data), set(data), is_reset) == (sent, {ord("x")}, True)


def test_no_descriptor_stays_with_the_receiver() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_reset(ours)
        before = len(list(Path("/proc/self/fd").iterdir()))
        assert receive_all(theirs) == (b"", True)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_reset_towards_somebody_who_is_gone_is_harmless() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    send_reset(ours)
    ours.close()
    send_reset(ours)


def test_tcp_sockets_are_read_as_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with server:
            client.sendall(b"data")
            client.close()
            assert receive_all(server) == (b"data", False)
