"""nginx with Lua that asks Redis by hand: the leanest way to sessions that nginx has."""

import platform
from collections.abc import Callable

from harness.nginx import FORWARD, start_nginx
from harness.sessions import invented, session, session_id

from .case import Case, Ground, Peer

FOLDER = "/usr/lib/nginx/modules"
MODULES = f"load_module {FOLDER}/ndk_http_module.so;\nload_module {FOLDER}/ngx_http_lua_module.so;"
LOCATION = """
        location / {
            set $session "";
            access_by_lua_block {
                local id = ngx.var.cookie_sessionid
                if not id or #id ~= 32 then return end
                local redis = ngx.socket.tcp()
                redis:settimeout(1000)
                assert(redis:connect("127.0.0.1", PORT, { pool = "sessions", pool_size = 64 }))
                if redis:getreusedtimes() == 0 then
                    assert(redis:send("SELECT DATABASE\\r\\n"))
                    assert(redis:receive())
                end
                local key = "$40\\r\\nsession:" .. id .. "\\r\\n"
                assert(redis:send("*2\\r\\n$3\\r\\nGET\\r\\n" .. key))
                local length = tonumber(string.sub(assert(redis:receive()), 2))
                if length >= 0 then
                    local data = assert(redis:receive(length))
                    assert(redis:receive())
                    ngx.var.session = data
                    MORE
                end
                redis:setkeepalive(60000)
            }
            FORWARD
            proxy_set_header X-Session-Data $session;
        }
"""
# Nothing can be awaited once the backend has answered, so this writes before: less than an update, and no compare-and-set.
WRITE = """
                    assert(redis:send("*3\\r\\n$3\\r\\nSET\\r\\n" .. key .. "$" .. length .. "\\r\\n" .. data .. "\\r\\n"))
                    assert(redis:receive())
"""


# As Cloakroom's `headers.expose`: text as it is, everything else as JSON; what no header may have percent-encoded.
PARSE = """
                    local json = require "cjson.safe"
                    for name, value in pairs(assert(json.decode(data))) do
                        local text = type(value) == "table" and json.encode(value) or tostring(value)
                        if string.find(text, "[^ -$&-~]") then text = ngx.escape_uri(text) end
                        ngx.req.set_header("X-Session-Attr-" .. string.gsub(name, "_", "-"), text)
                    end
"""


def lua(more: str) -> Callable[[Ground, str], Peer]:
    def start(ground: Ground, name: str) -> Peer:
        database = ground.redis.filled(session_id, session, ground.sessions)
        words = {"PORT": ground.redis.port, "DATABASE": database, "MORE": more, "FORWARD": FORWARD}
        locations = LOCATION
        for word, text in words.items():
            locations = locations.replace(word, str(text))
        return Peer(start_nginx(ground.place, name, ground.backend, locations, modules=MODULES), invented(ground.sessions))

    return start


NEEDS = {f"{FOLDER}/ngx_http_lua_module.so": "libnginx-mod-http-lua"}
CJSON = {f"/usr/lib/{platform.machine()}-linux-gnu/lua/5.1/cjson.so": "lua-cjson"}
CASES = [
    Case("lua_get", "nginx + Lua, one Redis GET each", "session", lua(""), header="X-Session-Data", gets=1, needs=NEEDS),
    Case(
        "lua_get_parsed",
        "nginx + Lua, one Redis GET each, its keys in seven headers",
        "session",
        lua(PARSE),
        header="X-Session-Data",
        parsed=True,
        gets=1,
        needs=NEEDS | CJSON,
    ),
    Case("lua_set", "nginx + Lua, GET and SET each", "update", lua(WRITE), header="X-Session-Data", gets=1, needs=NEEDS),
]
