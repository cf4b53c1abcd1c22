"""A small HTTP client for many connections at once: creates sessions, asks what a backend sees, leaves connections idle."""

import dataclasses
import re
import socket
from collections.abc import Iterable, Iterator

from .processes import Fault


@dataclasses.dataclass
class Response:
    status: int
    head: str
    body: str

    def header(self, name: str) -> str | None:
        return field(self.head, name)


def field(head: str, name: str) -> str | None:
    """The first header of that name in a head, of a request or of a response."""
    found = re.search(rf"^{re.escape(name)}:[ \t]*(.*?)[ \t]*\r?$", head, re.IGNORECASE | re.MULTILINE)
    return found and found[1]


class Connection:
    def __init__(self, port: int, timeout: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, path: str, cookie: str | None) -> None:
        line = f"Cookie: {cookie}\r\n" if cookie else ""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())

    def receive(self) -> Response:
        """Answers here have a length."""
        while b"\r\n\r\n" not in self.received:
            self.more()
        head, _, rest = self.received.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = field(text, "content-length")
        if length is None:
            raise Fault(f"an answer without a length: {text}")
        self.received = rest
        while len(self.received) < int(length):
            self.more()
        body, self.received = self.received[: int(length)], self.received[int(length) :]
        return Response(int(text.split(" ", 2)[1]), text, body.decode("latin-1"))

    def more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise Fault(f"the connection was closed instead of an answer, after {self.received[:200]!r}")
        self.received += data


def exchange(port: int, requests: Iterable[tuple[str, str | None]], connections: int = 32) -> Iterator[Response]:
    """The answers to requests (path, cookies), in order, so many at once."""
    try:
        opened = [Connection(port) for _ in range(connections)]
        try:
            pending = iter(requests)
            while True:
                busy = []
                for connection, (path, cookie) in zip(opened, pending, strict=False):
                    connection.send(path, cookie)
                    busy.append(connection)
                if not busy:
                    return
                for connection in busy:
                    yield connection.receive()
        finally:
            for connection in opened:
                connection.close()
    except OSError as fault:
        raise Fault(f"port {port}: {fault}") from fault
