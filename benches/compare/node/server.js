// http-proxy alone, or behind express, express-session and connect-redis as their documentation has them.
//
// node server.js PORT BACKEND [REDIS-URL SECRET]

const { randomBytes } = require('node:crypto');
const http = require('node:http');
const express = require('express');
const httpProxy = require('http-proxy');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const { createClient } = require('redis');

const [port, backend, redis, secret] = process.argv.slice(2);
const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${backend}`,
  agent: new http.Agent({ keepAlive: true }),
  xfwd: true,
});

// Without it an error would end the process; with it the load generator counts a failed request.
proxy.on('error', (error, request, response) => {
  console.error(error);
  response.writeHead(502, { 'Content-Length': 0 }).end();
});
// Before it is passed on: later, in 'proxyReq', the head of a request that waited may have left already.
function forward(request, response) {
  const client = request.socket.remoteAddress;
  request.headers.forwarded = `for=${client};proto=http;host="${request.headers.host}"`;
  request.headers['x-request-id'] = randomBytes(16).toString('hex');
  if (request.session) {
    const { cookie, ...data } = request.session;
    request.headers['x-session-data'] = JSON.stringify(data);
  }
  proxy.web(request, response);
}

async function withSessions() {
  const client = createClient({ url: redis });
  await client.connect();
  const app = express();
  app.use(session({ store: new RedisStore({ client }), secret, resave: false, saveUninitialized: false }));
  app.use(forward);
  return app;
}

(async () => {
  const answer = redis ? await withSessions() : forward;
  const server = http.createServer(answer);
  server.keepAliveTimeout = 300_000;
  server.listen(Number(port), '127.0.0.1');
})();
