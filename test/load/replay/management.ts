import { priceSchema, type Price } from '@sluice/contracts/billing';
import { parseUsd } from '@sluice/primitives/money';
import { z } from 'zod';
import { DemoError, type Demo } from './demo.ts';

const CALL_MS = 20_000;
/** So high that the limit is not what is measured. */
const RPM = 1_000_000;

export interface Key {
  readonly id: string;
  readonly name: string;
  readonly secret: string;
}

/** Keys of their own for this run: whatever is recorded for them belongs to it. */
export async function createKeys(demo: Demo, run: string, count: number): Promise<Key[]> {
  const schema = z.object({ data: z.object({ id: z.string(), apiKey: z.string() }) });
  const keys: Key[] = [];
  for (let i = 0; i < count; i++) {
    const name = `replay ${run} ${String(i).padStart(String(count - 1).length, '0')}`;
    const answer = schema.parse(await call(demo, 'managementKey', 'POST', '/api/keys/credit', { name, rpm: RPM }));
    keys.push({ id: answer.data.id, name, secret: answer.data.apiKey });
  }
  return keys;
}

/** Every version of every price. */
export async function readPriceList(demo: Demo): Promise<Price[]> {
  const schema = z.object({ data: z.array(priceSchema), nextCursor: z.string().nullish() });
  const prices: Price[] = [];
  for (let cursor: string | null | undefined; ;) {
    const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : '';
    const page = schema.parse(await call(demo, 'operatorKey', 'GET', `/api/operator/prices${query}`));
    prices.push(...page.data);
    cursor = page.nextCursor;
    if (!cursor) return prices;
  }
}

/** What the organization can spend, in pico-USD. */
export async function readAvailable(demo: Demo): Promise<bigint> {
  const schema = z.object({ data: z.object({ available: z.string() }) });
  return parseUsd(schema.parse(await call(demo, 'managementKey', 'GET', '/api/billing/status')).data.available);
}

async function call(
  demo: Demo,
  credential: 'managementKey' | 'operatorKey',
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const response = await fetch(demo.baseUrl + path, {
    method,
    headers: { authorization: `Bearer ${demo[credential]}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(CALL_MS),
  }).catch((cause: unknown) => {
    throw new DemoError(`no answer from ${demo.baseUrl}: is Sluice running (npm start)?`, { cause });
  });
  const text = await response.text();
  if (!response.ok) throw new DemoError(`${method} ${path}: ${response.status} ${text.slice(0, 500)}`);
  return JSON.parse(text);
}
