'use strict';
// The measured program: one small answer per connection, carrying the pid that served it.
// With BENCH_LISTEN_FD it serves an inherited socket, else it listens on PORT like any program.
const http = require('node:http');

const body = `pid ${process.pid}\n`;
const headers = { 'Content-Type': 'text/plain', 'Content-Length': body.length, Connection: 'close' };
const server = http.createServer((request, response) => {
  response.writeHead(200, headers);
  response.end(body);
});
server.on('error', (error) => {
  console.error(`server error: ${error.message}`);
  process.exit(1);
});

if (process.env.BENCH_LISTEN_FD) {
  server.listen({ fd: Number(process.env.BENCH_LISTEN_FD) });
} else {
  server.listen(Number(process.env.PORT), '127.0.0.1');
}
