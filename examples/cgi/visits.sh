#!/bin/bash
# A CGI script of the old kind, behind Cloakroom. A shell reads no JSON, so the proxy hands it the keys it needs in
# headers of their own:
#
#     [headers]
#     expose = ["user", "visits"]
#
# Start it with:
#
#     PROGRAM=visits.sh PORT=9000 lighttpd -D -f examples/cgi/lighttpd.conf

set -euo pipefail

# What the proxy percent-encoded, as it was.
decode() {
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}"
}

escape() {
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g' -e "s/'/\\&#39;/g"
}

page() {
    echo "Content-Type: text/html; charset=utf-8"
    if [[ -v HTTP_X_SESSION_ATTR_USER ]]; then
        echo "X-Session-Incr: visits=1"
    fi
    echo
    echo "<!doctype html>"
    echo "<title>Visits</title>"
    if [[ -v HTTP_X_SESSION_ATTR_USER ]]; then
        # This visit is counted when the answer passes the proxy, so the number at hand is one behind.
        visits=$((${HTTP_X_SESSION_ATTR_VISITS:-0} + 1))
        echo "<p>Good day, <b>$(decode "$HTTP_X_SESSION_ATTR_USER" | escape)</b>. This is visit $visits.</p>"
        echo '<form method="post" action="/logout"><button>Log out</button></form>'
    else
        echo "<p>Good day. You are not logged in.</p>"
        echo '<form method="post" action="/login"><input name="user" required> <button>Log in</button></form>'
    fi
}

login() {
    local body user=
    body=$(head -c "${CONTENT_LENGTH:-0}")
    if [[ $body =~ (^|&)user=([A-Za-z0-9%+*._~-]+)(&|$) ]]; then
        user=${BASH_REMATCH[2]}
    fi
    if [[ -z $user ]]; then
        printf 'Status: 400 Bad Request\nContent-Type: text/plain\n\nA name, please.\n'
        return
    fi
    # A form's encoding is the header's, so the name need not be decoded here.
    echo "X-Session-Set: user=$user"
    echo "X-Session-Action: cycle" # a new key at every login
    printf 'Status: 303 See Other\nLocation: /\n\n'
}

case "$REQUEST_METHOD ${PATH_INFO:-/}" in
    "GET /") page ;;
    "POST /login") login ;;
    "POST /logout")
        echo "X-Session-Action: flush"
        printf 'Status: 303 See Other\nLocation: /\n\n'
        ;;
    *) printf 'Status: 404 Not Found\nContent-Type: text/plain\n\nThere is no such page.\n' ;;
esac
