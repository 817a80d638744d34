// What a test sent to metering, and what metering's tables have of it: they have to be equal, row by row.
import { usageBatchId, type UsageBatch, type UsageRecord } from '@sluice/contracts/gateway';
import { claimOf, judgeClaim, quantitiesOf, unitPricesOf } from '@sluice/contracts/usage-claim';
import { aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { systemId } from '@sluice/primitives/id';
import { costOf } from '@sluice/primitives/money';
import { Client } from 'pg';
import type { Random } from '../prove/runner/random.ts';

const BUCKETS = { minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const;
type Granularity = keyof typeof BUCKETS;

/** By bucket, key and model: requests, tokens in and out, pico-USD. */
type Sums = Map<string, readonly [requests: bigint, input: bigint, output: bigint, cost: bigint]>;

export interface Delivery {
  readonly batch: UsageBatch;
  /** `Nats-Msg-Id`. */
  readonly id: string;
}

/** Every record that was sent, and what it has to come to. */
export class Sent {
  /** The best record of each request. */
  readonly best = new Map<string, UsageRecord>();
  records = 0;

  /**
   * Batches of a gateway's new boot: of each request a final record, of some an estimate before it; then, in another order,
   * all of them once more or twice, under ids that the broker does not know, and cut into other batches.
   */
  deliveries(random: Random, organizationId: string, batches: number, size: number): Delivery[] {
    const boot = systemId();
    const own: UsageRecord[] = [];
    for (let i = 0; i < batches * size; i++) own.push(this.record(random, organizationId, own));
    const numbered = own.map((record, seq) => ({ ...record, seq }));
    this.expect(numbered);
    const cut = (every: number) =>
      Array.from({ length: Math.ceil(numbered.length / every) }, (_, i) => numbered.slice(i * every, (i + 1) * every));
    const first = cut(size).map((records) => batchOf(boot, records));
    const again = cut(size + 3).map((records) => batchOf(boot, records));
    const all = [
      ...first.map((batch) => ({ batch, id: usageBatchId(batch) })),
      ...first.filter(() => random.next() < 0.3).map((batch) => ({ batch, id: systemId() })),
      ...again.filter(() => random.next() < 0.5).map((batch) => ({ batch, id: systemId() })),
    ];
    this.records += all.reduce((sum, { batch }) => sum + batch.records.length, 0);
    return all
      .map((delivery) => ({ delivery, at: random.next() }))
      .sort((a, b) => a.at - b.at)
      .map(({ delivery }) => delivery);
  }

  expect(records: readonly UsageRecord[]): void {
    for (const record of records) {
      const known = this.best.get(record.requestId);
      const verdict = judgeClaim(known && claimOf(known), claimOf(record));
      if (verdict === 'first' || verdict === 'better') this.best.set(record.requestId, record);
    }
  }

  private record(random: Random, organizationId: string, before: readonly UsageRecord[]): UsageRecord {
    const earlier = before.at(-1);
    // Its final record, in another minute than the estimate counted it in.
    if (earlier?.estimated)
      return { ...earlier, rank: 4, estimated: false, outputTokens: '77', endedAt: new Date().toISOString() };
    const endedAt = new Date(Date.now() - random.between(0, 3 * BUCKETS.hour)).toISOString();
    const estimated = random.next() < 0.2;
    return aUsageRecord({
      requestId: systemId(),
      organizationId,
      keyId: `${organizationId}-${random.pick(['a', 'b', 'c'])}`,
      model: random.pick(['m/one', 'm/two']),
      outcome: random.pick(['ok', 'ok', 'error', 'aborted']),
      rank: estimated ? 2 : 4,
      estimated,
      inputTokens: String(Math.floor(random.between(20, 5_000))),
      outputTokens: String(Math.floor(random.between(0, 900))),
      startedAt: endedAt,
      endedAt,
    });
  }

  sums(granularity: Granularity, organizationId: string): Sums {
    const sums: Sums = new Map();
    for (const record of this.best.values()) {
      if (record.organizationId !== organizationId) continue;
      const ended = Date.parse(record.endedAt);
      const at = ended - (ended % BUCKETS[granularity]);
      const taken = quantitiesOf(record);
      add(sums, `${at} ${record.keyId} ${record.model}`, [
        1n,
        taken.input,
        taken.output,
        costOf(taken, unitPricesOf(record.prices)),
      ]);
    }
    return sums;
  }
}

const batchOf = (boot: string, records: readonly UsageRecord[]): UsageBatch => ({
  boot,
  from: records[0]!.seq,
  to: records.at(-1)!.seq,
  records: [...records],
});

function add(
  sums: Sums,
  key: string,
  [requests, input, output, cost]: readonly [bigint, bigint, bigint, bigint],
): void {
  const [a, b, c, d] = sums.get(key) ?? [0n, 0n, 0n, 0n];
  sums.set(key, [a + requests, b + input, c + output, d + cost]);
}

/** metering's tables, read beside it. */
export class Books {
  private readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  async query(text: string, values: unknown[] = []): Promise<Record<string, string>[]> {
    const client = new Client({ connectionString: this.url, connectionTimeoutMillis: 10_000 });
    await client.connect();
    try {
      return (await client.query<Record<string, string>>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  async requests(organizationId: string): Promise<number> {
    const [row] = await this.query('select count(*) as n from usage_records where organization_id = $1', [
      organizationId,
    ]);
    return Number(row!['n']);
  }

  async sums(granularity: Granularity, organizationId: string): Promise<Sums> {
    const rows = await this.query(
      `select (extract(epoch from bucket) * 1000)::bigint as at, key_id, model, sum(request_count) as requests,
         sum(input_tokens) as input, sum(output_tokens) as output, sum(cost_pico) as cost
       from usage_by_${granularity} where organization_id = $1
       group by bucket, key_id, model having sum(request_count) <> 0`,
      [organizationId],
    );
    return new Map(
      rows.map((row) => [
        `${row['at']} ${row['key_id']} ${row['model']}`,
        [BigInt(row['requests']!), BigInt(row['input']!), BigInt(row['output']!), BigInt(row['cost']!)],
      ]),
    );
  }

  /** What the totals of keys come to: requests, tokens in and out. */
  async keyTotals(organizationId: string): Promise<readonly string[]> {
    const [row] = await this.query(
      `select coalesce(sum(request_count), 0) as requests, coalesce(sum(input_tokens), 0) as input,
         coalesce(sum(output_tokens), 0) as output from key_totals where organization_id = $1`,
      [organizationId],
    );
    return [row!['requests']!, row!['input']!, row!['output']!];
  }
}
