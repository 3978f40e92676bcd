'use strict';
// Node's own cluster primary over two workers; NODE_CLUSTER_SCHED_POLICY (rr or none) picks the policy.
const cluster = require('node:cluster');
const path = require('node:path');

cluster.setupPrimary({ exec: path.join(__dirname, 'server.js') });
for (let slot = 0; slot < 2; slot += 1) cluster.fork();
cluster.on('exit', (worker, code, signal) => {
  console.error(`worker ${worker.process.pid} ended (${signal || code})`);
  process.exit(1);
});
process.on('SIGTERM', () => process.exit(0));
