"""The backend, and the sessions that requests have."""

import json
import re
from collections.abc import Iterable, Iterator

from .accounts import Server
from .client import exchange, field
from .native import backend_program
from .processes import OTHER_CORE, Fault, Workplace, free_port

# With the user's number about 200 bytes in wire form; @ stands for the number.
SESSION = (
    '{"user_id":@,"name":"Ada Lovelace","lang":"en","roles":["staff","editor"],'
    '"csrf":"2f1c7a9be0d84c3f9a6b5d2e71f0c8a3","cart":{"items":3,"total":"59.70"},"seen":"0123456789abcdef0123456789abcdef"}'
)
# What every visitor has besides.
OTHER_COOKIE = "theme=dark"


def session(number: int) -> str:
    return SESSION.replace("@", str(number))


def session_id(number: int) -> str:
    """For stores that are filled directly."""
    return f"{number:032x}"


def start_backend(place: Workplace) -> Server:
    port = free_port()
    file = place.directory / "session"
    file.write_text(SESSION)
    return place.start("backend", [backend_program(), port, file], port, OTHER_CORE)


def created(port: int, count: int) -> list[str]:
    """So many Cookie headers, of sessions that the backend creates through the proxy at this port."""
    found = []
    for response in exchange(port, ((f"/create?{number}", None) for number in range(count))):
        cookie = re.match(r"(sessionid=[^;]+);", response.header("Set-Cookie") or "")
        if not cookie:
            raise Fault(f"no session was created, status {response.status}:\n{response.head}")
        found.append(f"{OTHER_COOKIE}; {cookie[1]}")
    return found


def invented(count: int) -> list[str]:
    """Cookie headers with the numbers' ids: the same bytes on the wire as everywhere."""
    return [f"{OTHER_COOKIE}; sessionid={session_id(number)}" for number in range(count)]


def seen(port: int, cookies: Iterable[str]) -> Iterator[str]:
    """The heads that the backend gets when a proxy is asked with these cookies."""
    for response in exchange(port, (("/seen", cookie) for cookie in cookies)):
        if response.status != 200:
            raise Fault(f"status {response.status} instead of what the backend saw:\n{response.body[:500]}")
        yield response.body


def check_sessions(port: int, cookies: list[str], header: str | None) -> None:
    """Asks once with every cookie: the backend must see the session of each in this header, or, without one, none at all.

    A store is read once from end to end that way, so a cache is hot after it."""
    for number, head in enumerate(seen(port, cookies)):
        data = field(head, header or "X-Session-Data")
        if header and not (data and re.search(rf'user_id"?[:=]{number}\b', data) and 150 <= len(data) <= 300):
            raise Fault(f"instead of session {number} in {header} the backend saw:\n{head}")
        if not header and data:
            raise Fault(f"the backend saw a session where there is none:\n{head}")


def check_parsed(port: int, cookie: str) -> None:
    """Asks with the first session's cookie: every key must be in a header of its own, text as it is, all else as JSON."""
    for head in seen(port, [cookie]):
        for key, value in json.loads(session(0)).items():
            text = field(head, f"X-Session-Attr-{key.replace('_', '-')}")
            if text is None or (text if isinstance(value, str) else json.loads(text)) != value:
                raise Fault(f"instead of {key} = {value!r} the backend saw:\n{head}")


# What nginx is told to set, because Cloakroom does.
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-Id")


def check_forwarding(port: int, cookie: str) -> None:
    for head in seen(port, [cookie]):
        missing = [name for name in FORWARDED if field(head, name) is None]
        if missing:
            raise Fault(f"the backend got no {', '.join(missing)}:\n{head}")
