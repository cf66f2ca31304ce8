"""An agent's way through what is in between. Direct ways are in tests/e2e/test_doctor.py."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.tunneld.doctor.samples import verdicts
from tests.tunneld.doctor.test_handshake import h2_greeting, server_tls, serving
from tunneld.config import AgentConfig
from tunneld.doctor.agent import check_files, check_way


@contextmanager
def http_proxy(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy for CONNECT, and the heads that came to it."""
    heads: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(client: socket.socket) -> None:
        with client:
            client.settimeout(10)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                octets = client.recv(4096)
                if not octets:
                    return
                head += octets
            heads.append(head)
            client.sendall(reply)
            if b" 200 " not in reply:
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port)), 10) as target:
                back = threading.Thread(target=pump, args=(target, client))
                back.start()
                pump(client, target)
                back.join()

    def accept() -> None:
        threads = []
        while True:
            client, _ = listener.accept()
            if done.is_set():
                client.close()
                break
            threads.append(threading.Thread(target=serve, args=(client,)))
            threads[-1].start()
        for each in threads:
            each.join()

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{address[1]}", heads
        finally:
            done.set()
            socket.create_connection(address).close()
            thread.join()


def agent(pki: Path, server: str, **change: str) -> AgentConfig:
    cert, key, ca = (str(pki / "agent" / name) for name in ("agent.crt", "agent.key", "ca.crt"))
    config = AgentConfig(name="home", server=server, cert=cert, key=key, ca=ca)
    return msgspec.structs.replace(config, **change)


def test_a_proxy_of_the_agent_s_environment_is_gone_through(pki: Path) -> None:
    with (
        serving(server_tls(pki, "h2"), h2_greeting()) as (host, port),
        http_proxy(b"HTTP/1.1 200 OK\r\n\r\n") as (proxy, heads),
    ):
        config = agent(pki, f"{host}:{port}", http_proxy="environment")
        environ = {"HTTPS_PROXY": f"http://me:s%3Acret@{proxy}"}
        found = verdicts(check_way(config, environ))
    assert found[:5] == [
        ("proxy environment", "pass"),
        ("proxy", "info"),
        ("dns", "pass"),
        ("tcp", "pass"),
        ("way", "pass"),
    ]
    assert ("admission", "pass") in found
    assert heads[0].startswith(f"CONNECT {host}:{port} HTTP/1.1\r\n".encode())
    assert b"Basic bWU6czpjcmV0" in heads[0]  # me:s:cret


def test_a_proxy_that_refuses_is_where_it_ends(pki: Path) -> None:
    with http_proxy(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n") as (proxy, _):
        config = agent(pki, "edge.example.org:8091", http_proxy=f"http://{proxy}")
        found = list(check_way(config, {}))
    assert verdicts(found)[-1] == ("way", "fail")
    assert "407" in found[-1].detail


def test_files_of_an_agent_with_a_token_are_looked_at(pki: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    config = agent(pki, "edge:1", cert="", key="", token_path=str(token))
    assert verdicts(check_files(config)) == [("token", "fail"), ("ca", "pass")]
    token.write_text("\n")
    assert verdicts(check_files(config))[0] == ("token", "fail")
    token.write_text("secret\n")
    found = list(check_files(config))
    assert verdicts(found)[0] == ("token", "pass")
    assert not any("secret" in each.detail for each in found)


def test_a_server_that_is_no_address_is_all_that_is_found(pki: Path) -> None:
    assert verdicts(check_way(agent(pki, "nonsense"), {})) == [("server", "fail")]
