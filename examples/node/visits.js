// A server of the old kind, behind Cloakroom. It reads the session from a request header and changes it with response
// headers. Nothing but Node itself. Start it with:
//
//     node examples/node/visits.js 9000

'use strict';

const http = require('http');

const LONGEST_FORM = 10000;

function escape(text) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

function page(session, response) {
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  let text;
  if (session.user !== undefined) {
    response.setHeader('X-Session-Incr', 'visits=1');
    // This visit is counted when the answer passes the proxy, so the number at hand is one behind.
    const visits = (session.visits || 0) + 1;
    text = `<p>Good day, <b>${escape(session.user)}</b>. This is visit ${visits}.</p>\n` +
      '<form method="post" action="/logout"><button>Log out</button></form>\n';
  } else {
    text = '<p>Good day. You are not logged in.</p>\n' +
      '<form method="post" action="/login"><input name="user" required> <button>Log in</button></form>\n';
  }
  response.end('<!doctype html>\n<title>Visits</title>\n' + text);
}

function login(body, response) {
  const user = (new URLSearchParams(body).get('user') || '').trim();
  if (!user) {
    response.writeHead(400, { 'Content-Type': 'text/plain' }).end('A name, please.\n');
    return;
  }
  response.writeHead(303, {
    'Location': '/',
    'X-Session-Set': new URLSearchParams({ user }).toString(),
    'X-Session-Action': 'cycle', // a new key at every login
  }).end();
}

const server = http.createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk) => {
    body += chunk;
    if (body.length > LONGEST_FORM) request.destroy();
  });
  request.on('end', () => {
    const session = JSON.parse(request.headers['x-session-data'] || '{}');
    switch (`${request.method} ${request.url.split('?')[0]}`) {
      case 'GET /':
        page(session, response);
        break;
      case 'POST /login':
        login(body, response);
        break;
      case 'POST /logout':
        response.writeHead(303, { 'Location': '/', 'X-Session-Action': 'flush' }).end();
        break;
      default:
        response.writeHead(404, { 'Content-Type': 'text/plain' }).end('There is no such page.\n');
    }
  });
});

server.listen(Number(process.argv[2]), '127.0.0.1');
