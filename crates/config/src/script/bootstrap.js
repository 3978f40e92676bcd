// Evaluates a configuration file and answers with one line of JSON. Its stdin is the pipe that the answer goes to;
// whatever the file prints goes elsewhere.
'use strict';
const fs = require('fs');
const { pathToFileURL } = require('url');
const file = process.argv[process.argv.length - 1];
process.argv = [process.argv[0], file];
let to = 0;
try {
  to = fs.openSync('/proc/self/fd/0', 'w');
  fs.closeSync(0);
  fs.openSync('/dev/null', 'r');
} catch {
  to = to || 0;
}
const end = process.reallyExit ? process.reallyExit.bind(process) : process.exit.bind(process);
const write = fs.writeSync;
const stringify = JSON.stringify;
const answer = (what) => {
  const bytes = Buffer.from(stringify(what, (_, value) => (typeof value === 'function' ? null : value)) + '\n');
  for (let at = 0; at < bytes.length; ) at += write(to, bytes, at);
  end(0);
};
const fail = (error) => {
  const is = error !== null && typeof error === 'object';
  const message = is && 'message' in error ? `${error.name || 'Error'}: ${error.message}` : `it threw ${String(error)}`;
  answer({ error: { message, stack: is ? String(error.stack) : '' } });
};
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
(async () => {
  const found = await import(pathToFileURL(file).href);
  let value = 'default' in found ? found.default : { ...found };
  if (value && value.__esModule && 'default' in value) value = value.default;
  if (typeof value === 'function') value = value();
  value = await value;
  if (value && Array.isArray(value.apps)) value = { ...value, apps: await Promise.all(value.apps) };
  answer({ value });
})().catch(fail);
