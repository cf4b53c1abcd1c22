"""The peers. nginx comes first: it is what everything is compared with."""

from harness.nginx import start_nginx
from harness.sessions import invented

from . import apache, haproxy, lua, node, pingora, relay
from .case import Case, Ground, Peer


def nginx(ground: Ground, name: str) -> Peer:
    return Peer(start_nginx(ground.place, name, ground.backend), invented(ground.sessions))


NGINX = Case("nginx", "nginx `proxy_pass`", "forward", nginx)
CASES = [NGINX, *relay.CASES, *haproxy.CASES, *lua.CASES, *pingora.CASES, *apache.CASES, *node.CASES]
