"""HAProxy, which has no sessions of this kind."""

from harness.accounts import Server
from harness.processes import PROXY_CORE, find, free_port
from harness.sessions import invented

from .case import Case, Ground, Peer

CONF = """
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    option http-keep-alive
    http-reuse always
frontend clients
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header Forwarded "for=%[src];proto=http;host=\\"%[req.hdr(Host)]\\""
    http-request set-header X-Request-Id %[uuid]
    default_backend app
backend app
    server app 127.0.0.1:{backend}
"""


def haproxy(ground: Ground, name: str) -> Peer:
    port = free_port()
    file = ground.place.folder(name) / "haproxy.cfg"
    file.write_text(CONF.format(port=port, backend=ground.backend))
    server: Server = ground.place.start(name, [find("haproxy"), "-db", "-f", file], port, PROXY_CORE)
    return Peer(server, invented(ground.sessions))


NEEDS = {"haproxy": "haproxy"}
CASES = [Case("haproxy", "HAProxy", "forward", haproxy, version=("haproxy", "-v"), needs=NEEDS)]
