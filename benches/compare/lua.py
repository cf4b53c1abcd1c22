"""nginx with Lua that asks Redis by hand: the leanest way to sessions that nginx has."""

from harness.nginx import FORWARD, start_nginx
from harness.sessions import invented, session, session_id

from .case import Case, Ground, Peer

FOLDER = "/usr/lib/nginx/modules"
MODULES = f"load_module {FOLDER}/ndk_http_module.so;\nload_module {FOLDER}/ngx_http_lua_module.so;"
# {{ and }} are for str.format.
GET = """
        location / {{
            set $session "";
            access_by_lua_block {{
                local id = ngx.var.cookie_sessionid
                if not id or #id ~= 32 then return end
                local redis = ngx.socket.tcp()
                redis:settimeout(1000)
                assert(redis:connect("127.0.0.1", {port}, {{ pool = "sessions", pool_size = 64 }}))
                if redis:getreusedtimes() == 0 then
                    assert(redis:send("SELECT {database}\\r\\n"))
                    assert(redis:receive())
                end
                assert(redis:send("*2\\r\\n$3\\r\\nGET\\r\\n$40\\r\\nsession:" .. id .. "\\r\\n"))
                local length = tonumber(string.sub(assert(redis:receive()), 2))
                if length >= 0 then
                    ngx.var.session = assert(redis:receive(length))
                    assert(redis:receive())
                end
                {then_do}
                redis:setkeepalive(60000)
            }}
            {forward}
            proxy_set_header X-Session-Data $session;
        }}
"""
# Before the answer is there, for afterwards nginx lets nobody wait. So this is no compare-and-set, and less than an update.
SET = """
                assert(redis:send("*3\\\\r\\\\n$3\\\\r\\\\nSET\\\\r\\\\n$40\\\\r\\\\nsession:" .. id .. "\\\\r\\\\n$" .. length .. "\\\\r\\\\n" .. ngx.var.session .. "\\\\r\\\\n"))
                assert(redis:receive())
"""


def lua(then_do: str) -> "Callable[[Ground, str], Peer]":
    def start(ground: Ground, name: str) -> Peer:
        database = ground.redis.database()
        ground.redis.store(database, [(f"session:{session_id(number)}", session(number)) for number in range(ground.sessions)])
        locations = GET.format(port=ground.redis.port, database=database, forward=FORWARD, then_do=then_do)
        server = start_nginx(ground.place, name, ground.backend, locations, modules=MODULES)
        return Peer(server, invented(ground.sessions))

    return start


NEEDS = {f"{FOLDER}/ngx_http_lua_module.so": "Debian package libnginx-mod-http-lua"}
CASES = [
    Case("lua_get", "nginx + Lua, one Redis GET each", "session", lua(""), header="X-Session-Data", needs=NEEDS),
]
