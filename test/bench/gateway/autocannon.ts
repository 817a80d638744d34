// The load program where there is no wrk: an order on the standard input, what came of it as the last line.
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import autocannon from 'autocannon';
import type { Order, Printed } from './load.ts';

const order = JSON.parse(await text(process.stdin)) as Order & { readonly amount: number };
const keys = readFileSync(order.keys, 'utf8').trim().split('\n');
let next = 0;
const headersOf = (key: string) =>
  Object.fromEntries(Object.entries(order.headers).map(([name, value]) => [name, value.replace('{key}', key)]));

const result = await autocannon({
  url: order.url + order.path,
  connections: order.connections,
  amount: order.amount,
  ...(order.rate === undefined ? {} : { overallRate: Math.round(order.rate) }),
  method: 'POST',
  body: order.body,
  headers: headersOf(keys[0]!),
  requests: [
    {
      setupRequest: (request) =>
        keys.length === 1 ? request : { ...request, headers: headersOf(keys[(next += 7919) % keys.length]!) },
    },
  ],
});
const { user, system } = process.cpuUsage();
const printed: Printed = {
  requests: result['2xx'] + result.non2xx,
  errors: result.errors + result.non2xx + result.timeouts,
  // It counts whole milliseconds.
  p50: result.latency.p50 * 1000,
  p90: result.latency.p90 * 1000,
  p99: result.latency.p99 * 1000,
  max: result.latency.max * 1000,
  cpuMs: (user + system) / 1000,
  seconds: (result.finish.getTime() - result.start.getTime()) / 1000,
};
console.log(JSON.stringify(printed));
