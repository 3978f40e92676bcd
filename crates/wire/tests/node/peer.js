// The other end of a channel: sends every value with what it should become, and says of what it receives whether it
// is what it should be.
'use strict';
const assert = require('assert');
const { values, view } = require('./values.js');

values.forEach((value, index) => {
  process.send({ index, text: JSON.stringify(view(value)), value });
});
process.send('sent');

// What becomes of a class and of an object without a prototype is a plain object.
function comparable(value) {
  return value && value.f && value.n ? { f: { ...value.f }, n: {} } : value;
}

function judge(message) {
  if ('fromWorker' in message) {
    // A value that was passed on as it is, with its sender.
    const original = values[message.index];
    const isInvalid = original instanceof Date && Number.isNaN(+original) && message.value instanceof Date;
    // Two of those are not the same for Node 18.
    if (isInvalid) assert(Number.isNaN(+message.value));
    else assert.deepStrictEqual(message.value, comparable(original));
    assert.strictEqual(message.fromWorker, 7);
  } else {
    // A line that became a value.
    assert.deepStrictEqual(message.value, JSON.parse(message.text));
  }
}

process.on('message', (message) => {
  if (message === 'end') return process.disconnect();
  try {
    judge(message);
    process.send('same');
  } catch (error) {
    process.send({ wrong: String(error.message), index: message.index, text: message.text });
  }
});
