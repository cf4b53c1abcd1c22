"""Cloakroom with a configuration of its own."""

import pathlib
import subprocess

from .accounts import Server
from .processes import PROXY_CORE, Workplace, free_port

CONF = """\
[server]
listen = ["127.0.0.1:{port}"]
workers = {workers}
max_connections = 20000
header_timeout = "5m"
[upstreams.app]
servers = ["http://127.0.0.1:{backend}"]
{routes}
[store]
{store}
[log]
access = {access_log}
"""
ROUTE = '[[routes]]\nupstream = "app"\nsession = {session}\n'
NEAR_CACHE = "[store.near_cache]\nenabled = {enabled}\n"


def route(session: bool) -> str:
    return ROUTE.format(session=str(session).lower())


def configuration(port: int, backend: int, store: str, routes: str, workers: int = 1, access_log: bool = False) -> str:
    log = str(access_log).lower()
    return CONF.format(port=port, workers=workers, backend=backend, store=store, routes=routes, access_log=log)


def near_cache(binary: pathlib.Path, place: Workplace, store: str, enabled: bool) -> str | None:
    """This body of [store] with the near cache on or off; none if this binary does not know how."""
    text = store + "\n" + NEAR_CACHE.format(enabled=str(enabled).lower())
    return text if accepts(binary, place, configuration(1, 1, text, route(True))) else None


def accepts(binary: pathlib.Path, place: Workplace, text: str) -> bool:
    """Whether it would start with this configuration. The store has to be there."""
    file = place.directory / "accepts.toml"
    file.write_text(text)
    done = subprocess.run([binary, "check", "--config", file], capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def start_cloakroom(
    place: Workplace,
    name: str,
    binary: pathlib.Path,
    backend: int,
    store: str,
    routes: str,
    workers: int = 1,
    access_log: bool = False,
) -> Server:
    """`store` is the body of [store], `routes` are whole tables; any others may follow."""
    port = free_port()
    file = place.directory / f"{name}.toml"
    file.write_text(configuration(port, backend, store, routes, workers, access_log))
    return place.start(name, [binary, "serve", "--config", file], port, PROXY_CORE)
