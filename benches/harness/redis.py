"""Redis: a server of the benchmark's own, what it holds and how often it was asked."""

import re
import socket
from collections.abc import Callable, Sequence

from .accounts import Server
from .processes import OTHER_CORE, Fault, Workplace, free_port

DATABASES = 64


class Redis:
    def __init__(self, place: Workplace) -> None:
        self.port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--appendonly", "no"]
        self.server: Server = place.start("redis", [*command, "--databases", DATABASES], self.port, OTHER_CORE)
        self.used = 0

    def database(self) -> int:
        """The number of one that nobody uses yet."""
        if self.used == DATABASES:
            raise Fault(f"Redis has no more than {DATABASES} databases here")
        self.used += 1
        return self.used - 1

    def url(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def store(self, database: int, records: Sequence[tuple[str, str]]) -> None:
        """Sets keys to values, for an hour."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection, connection.makefile("rb") as answers:
            connection.sendall(command("SELECT", str(database)))
            expect(answers.readline())
            for start in range(0, len(records), 1000):
                some = records[start : start + 1000]
                connection.sendall(b"".join(command("SET", key, value, "EX", "3600") for key, value in some))
                for _ in some:
                    expect(answers.readline())

    def filled(self, name: Callable[[int], str], value: Callable[[int], str], count: int) -> int:
        """The number of a new database with so many sessions."""
        database = self.database()
        self.store(database, [(f"session:{name(number)}", value(number)) for number in range(count)])
        return database

    def calls(self) -> dict[str, int]:
        """How often which command was called since the start; those of scripts count too."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection, connection.makefile("rb") as answer:
            connection.sendall(command("INFO", "commandstats"))
            text = answer.read(int(answer.readline()[1:])).decode()
        return {name: int(calls) for name, calls in re.findall(r"cmdstat_([^:]+):calls=(\d+)", text) if name != "info"}


def command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def expect(line: bytes) -> None:
    if line != b"+OK\r\n":
        raise Fault(f"Redis answered {line!r}")
