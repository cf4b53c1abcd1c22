"""What a connection costs that only waits."""

from .accounts import Server
from .client import Connection
from .processes import Fault


def idle_kib(server: Server, count: int, cookie: str, steady_seconds: float) -> float:
    """KiB that each of so many kept-alive connections adds, each used once, once the process rests."""
    before = server.steady_kib(steady_seconds)
    opened = []
    try:
        for _ in range(count):
            connection = Connection(server.port)
            opened.append(connection)
            connection.send("/", cookie)
            if connection.receive().status != 200:
                raise Fault("a connection that was to be idle got no answer")
        return (server.steady_kib(steady_seconds) - before) / count
    except OSError as fault:
        raise Fault(f"idle connection {len(opened)}: {fault}") from fault
    finally:
        for connection in opened:
            connection.close()
