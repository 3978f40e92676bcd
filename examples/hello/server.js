// A plain Node server: nothing in it knows about Oxherd. `node server.js` runs it alone.
const cluster = require('node:cluster');
const http = require('node:http');

const port = Number(process.env.PORT) || 3000;
const name = cluster.isWorker ? `worker ${cluster.worker.id}` : 'no worker';

const server = http.createServer((req, res) => {
  res.writeHead(200, { 'Content-Type': 'text/plain' });
  res.end(`hello from ${name} (pid ${process.pid})\n`);
});

server.listen(port, () => {
  console.log(`listening on http://localhost:${port}`);
});
