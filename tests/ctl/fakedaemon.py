"""A daemon that answers from a table: real UNIX socket, real codec, a thread for each client."""

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctl.messages import PROTOCOL_VERSION, ControlError, Decoder, FrameError, Message, encode


@dataclass
class Stream:
    """A streamed reply."""

    items: Sequence[Message]
    end: Message | None = field(default_factory=dict)
    error: ControlError | None = None


@dataclass
class Raw:
    """Octets in place of a reply."""

    data: bytes


@dataclass
class Dial:
    """A reply after which the connection is the endpoint's."""

    endpoint: Callable[[socket.socket], None]
    result: Message = field(default_factory=lambda: {"peer": "2.2.2.2 via agent demo"})


Answer = Message | Stream | Raw | Dial | ControlError | None
"""None closes the connection without a word."""


class FakeDaemon:
    """Listens on ``path`` until closed; `calls` are the requests it got, but for greetings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer | Callable[[Message], Answer]] = {
            "hello": {"version": PROTOCOL_VERSION, "server": "fake", "pid": 4711}
        }
        self.calls: list[tuple[str, Message]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        """Stop, once every client has been served."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.join()
        self.path.unlink()

    def join(self) -> None:
        """Wait until the clients so far have been served."""
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client:
            decoder = Decoder()
            try:
                while self._serve_one(client, decoder):
                    pass
            except (ConnectionError, FrameError):
                return

    def _serve_one(self, client: socket.socket, decoder: Decoder) -> bool:
        while (request := decoder.next_message()) is None:
            data = client.recv(decoder.missing())
            if not data:
                return False
            decoder.feed(data)
        return self._reply(client, request)

    def _reply(self, client: socket.socket, request: Message) -> bool:
        if request["method"] != "hello":
            self.calls.append((request["method"], request["params"]))
        answer: Any = self.answers.get(
            request["method"], ControlError("unknown_method", f"no method {request['method']}")
        )
        if callable(answer):
            answer = answer(request["params"])
        head = {"id": request["id"]}
        match answer:
            case None:
                return False
            case Raw(data):
                client.sendall(data)
                return False
            case ControlError():
                client.sendall(encode({**head, "error": answer.to_map()}))
            case Stream(items, end, error):
                for item in items:
                    client.sendall(encode({**head, "item": item}))
                last = {"error": error.to_map()} if error else {"end": end}
                client.sendall(encode({**head, **last}))
            case Dial(endpoint, result):
                client.sendall(encode({**head, "result": result}))
                endpoint(client)
                return False
            case _:
                client.sendall(encode({**head, "result": answer}))
        return True


def echo(sock: socket.socket) -> None:
    """An endpoint that sends back what it gets, half-close included."""
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
