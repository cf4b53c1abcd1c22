"""nginx with a configuration of its own."""

import pathlib

from .accounts import Server
from .load import CONNECTIONS
from .processes import PROXY_CORE, Workplace, find, free_port

HEAD = """
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{modules}
events {{ worker_connections 20000; }}
http {{
    access_log off;
    keepalive_timeout 300;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream app {{ server 127.0.0.1:{backend}; keepalive {keepalive}; keepalive_requests 1000000000; }}
    {http}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""

# What Cloakroom tells a backend too.
FORWARD = """
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header Forwarded 'for=$remote_addr;proto=$scheme;host="$http_host"';
            proxy_set_header X-Request-Id $request_id;
"""
PLAIN = f"location / {{ {FORWARD} }}"


def start_nginx(
    place: Workplace,
    name: str,
    backend: int,
    locations: str = PLAIN,
    http: str = "",
    modules: str = "",
    core: int = PROXY_CORE,
    workers: int = 1,
) -> Server:
    port = free_port()
    folder: pathlib.Path = place.folder(name)
    file = folder / "nginx.conf"
    file.write_text(
        HEAD.format(
            folder=folder,
            workers=workers,
            modules=modules,
            backend=backend,
            keepalive=CONNECTIONS,
            http=http,
            port=port,
            locations=locations,
        )
    )
    return place.start(f"{name}", [find("nginx"), "-p", folder, "-c", file, "-e", folder / "error.log"], port, core)
