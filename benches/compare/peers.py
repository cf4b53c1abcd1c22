"""The peers, in the order of the table."""

from harness.nginx import start_nginx
from harness.sessions import invented

from .case import Case, Ground, Peer
from .relay import CASES as RELAY


def nginx(ground: Ground, name: str) -> Peer:
    return Peer(start_nginx(ground.place, name, ground.backend), invented(ground.sessions))


NGINX = Case("nginx", "nginx `proxy_pass`", "forward", nginx, version=("nginx", "-v"))
CASES = [NGINX, *RELAY]
