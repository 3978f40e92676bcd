// Round trips of messages worker -> primary -> worker and back, by Node's cluster: what `oxherd-bench sdk` compares with.
// Arguments: how many are on the way at a time, and for how many seconds.
const cluster = require('node:cluster');

const [window, seconds] = process.argv.slice(2).map(Number);

if (cluster.isPrimary) {
  const pass = (worker, message) => {
    const sent = { ...message, fromWorker: worker.id };
    if (message.targetWorker === 'all') {
      Object.values(cluster.workers).filter((it) => it !== worker).forEach((it) => it.send(sent));
    } else {
      cluster.workers[message.targetWorker].send(sent);
    }
  };
  cluster.on('message', pass);
  cluster.fork({ ROLE: 'answers' });
  cluster.fork({ ROLE: 'asks' });
} else if (process.env.ROLE === 'answers') {
  process.on('message', ({ type, fromWorker, data }) => {
    if (type === 'ask') process.send({ targetWorker: fromWorker, type: 'answer', data });
  });
} else {
  let begun = null;
  let count = 0;
  const seek = setInterval(() => process.send({ targetWorker: 'all', type: 'ask', data: 0 }), 50);
  process.on('message', ({ type, fromWorker }) => {
    if (type !== 'answer') return;
    const ask = () => process.send({ targetWorker: fromWorker, type: 'ask', data: count });
    if (begun === null) {
      clearInterval(seek);
      begun = process.hrtime.bigint();
      for (let each = 0; each < window; each += 1) ask();
      return;
    }
    count += 1;
    const elapsed = Number(process.hrtime.bigint() - begun) / 1e9;
    if (elapsed < seconds) return ask();
    if (count !== Infinity) console.log(`round trips ${count} in ${elapsed} s`);
    count = Infinity;
  });
}
