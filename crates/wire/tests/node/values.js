// Values of every kind that `process.send` takes with `serialization: 'advanced'`, and what becomes of them as JSON.
'use strict';

class Point {
  constructor() { this.x = 1; this.y = [2]; }
}

const shared = { a: [1, 'x'] };
const cycle = { name: 'cycle' };
cycle.self = cycle;
cycle.list = [cycle, shared];
const sparse = [];
sparse[7] = 'seven';
sparse[40] = undefined;
const named = [1, 2];
named.index = 4;
named.input = shared;
const failure = new TypeError('no é', { cause: { code: 5 } });
const plain = new Error();
delete plain.stack;
let deep = 'leaf';
for (let i = 0; i < 400; i++) deep = i % 3 ? [deep] : i % 2 ? { deep } : new Map([['k', deep]]);

const values = [
  null, true, false, 0, -0, 1, -1, 63, 64, 127, 128, 2 ** 30, -(2 ** 30), 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 32,
  2 ** 53, -(2 ** 53), 2 ** 53 + 2, 1e20, 1e21, -1.5e300, 1e-6, 1.5e-7, 5e-324, 0.1, 123456.789, NaN, Infinity, -Infinity,
  '', 'ready', 'a"b\\c/\b\f\n\r\t\0\x1f\x7f', 'é\xff', 'łódź', '🐂 herd', '\ud800', 'x\udc00y', '\u2028\u2029', 'é'.repeat(300),
  '中'.repeat(300), 'x'.repeat(70000),
  {}, { a: 1 }, { a: undefined, b: 2 }, { b: undefined }, { 0: 'zero', 12: 1, 4294967294: 2, 4294967295: 3, '01': 4, '-1': 5 },
  { 'é': 1, 'ł': 2, '': 3, '"': 4, '\ud800': 5 }, JSON.parse('{"__proto__":1,"constructor":2}'),
  { f: new Point(), n: Object.create(null) },
  [], [1, 2, 3], [1, 2.5, 'x', null, undefined, true], [, 1, , 2, ,], sparse, named, new Array(3), [[[]], {}],
  'axb'.match(/x/), Object.assign(sparse.slice(), { extra: named }),
  new Date(0), new Date(951782400123), new Date(-1), new Date(NaN), new Date(8.64e15), new Date(-62167219200001),
  new Map(), new Map([['a', 1], ['b', { c: new Map([['d', 2]]) }]]), new Map([[1, 'a'], ['b', 2]]),
  new Map([[{ k: 1 }, new Map([[null, undefined]])], [[1], new Set([1])]]), new Map([['a', undefined], ['b', new Map([[1, 1]])]]),
  new Set(), new Set([1, 'a', { b: new Set([[]]) }]),
  0n, 1n, -1n, 2n ** 64n, -(2n ** 64n) + 1n, 10n ** 40n, 1n << 4000n, 1n << 5000n, -(1n << 5000n), { big: 123456789012345678901234567890n },
  /a+b/gi, new RegExp('é"', 'u'),
  new Error('boom'), failure, new RangeError('r'), plain, { type: 'error', error: new Error('x') },
  Buffer.from('hé'), Buffer.alloc(0), { b: Buffer.from([0, 9, 10, 99, 100, 255]) },
  new Uint8Array([1, 200]), new Uint8ClampedArray([300]), new Int8Array([-1, 1]), new Int16Array([-2, 300]),
  new Uint16Array([65535]), new Int32Array([-1]), new Uint32Array([4294967295]), new Float32Array([1.5, 0.1]),
  new Float64Array([0.1, NaN]), new BigInt64Array([-5n]), new BigUint64Array([2n ** 64n - 1n]),
  new DataView(new Uint8Array([1, 2, 3]).buffer), new ArrayBuffer(4), new Uint8Array([1, 2, 3, 4]).buffer,
  new Number(1.5), new String('boxed "é"'), new Boolean(false), new Boolean(true), Object(7n),
  { one: shared, two: shared, three: [shared, shared.a] }, cycle, [cycle, cycle],
  { buffer: failure, again: [failure, new Date(5)], date: new Date(5) }, { dropped: named, kept: shared },
  { map: new Map([[shared, shared], ['x', cycle]]), set: new Set([shared]) },
  { regexp: /x/, after: [new Map([['k', /x/]])] },
  deep,
  { type: 'stats', stats: { connections: 1, requests: 2.5 } }, { cmd: 'NODE_', act: 5 },
];

// As `docs/design/channel.md` has it.
function view(value, open = new Set()) {
  if (value === null || value === undefined) return null;
  switch (typeof value) {
    case 'bigint': return value < 1n << 4096n && value > -(1n << 4096n) ? String(value)
      : value < 0n ? '-0x' + (-value).toString(16) : '0x' + value.toString(16);
    case 'object': break;
    default: return value;
  }
  if (value instanceof Number || value instanceof String || value instanceof Boolean) return value.valueOf();
  if (value instanceof BigInt) return view(value.valueOf());
  if (value instanceof Date) return value;
  if (value instanceof RegExp) return value.source;
  if (Buffer.isBuffer(value)) return value;
  if (value instanceof ArrayBuffer) return Array.from(new Uint8Array(value));
  if (value instanceof DataView) return Array.from(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (ArrayBuffer.isView(value)) return Array.from(value, (each) => view(each));
  if (open.has(value)) return null;
  open.add(value);
  const inside = (each) => view(each, open);
  let result;
  if (value instanceof Error) {
    result = { name: value.name, message: value.message };
    const cause = () => { if ('cause' in value) result.cause = inside(value.cause); };
    const isBefore = parseInt(process.versions.node) < 22;
    if (isBefore) cause();
    if (value.stack !== undefined) result.stack = value.stack;
    if (!isBefore) cause();
  } else if (value instanceof Map) {
    const isObject = [...value.keys()].every((key) => typeof key === 'string');
    const pairs = [...value].map(([key, each]) => [inside(key), inside(each)]);
    result = isObject ? Object.fromEntries(pairs) : pairs;
  } else if (value instanceof Set) {
    result = [...value].map(inside);
  } else if (Array.isArray(value)) {
    result = Array.from(value, inside);
  } else {
    result = {};
    for (const [key, each] of Object.entries(value)) {
      Object.defineProperty(result, key, { value: each === undefined ? undefined : inside(each), enumerable: true });
    }
  }
  open.delete(value);
  return result;
}

if (typeof Float16Array === 'function') values.push(new Float16Array([1.5, -2]));

module.exports = { values, view };
