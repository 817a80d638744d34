import { addressDigest, chainFault, type AuditHead } from '@sluice/contracts/audit';
import type { Client } from 'pg';

const PAGE = 1_000;
/** Enough to see what is wrong. */
const MAX_FAULTS = 20;

export interface Found {
  readonly chains: number;
  readonly entries: number;
  readonly addresses: number;
  /** Exported heads that were met. */
  readonly heads: number;
  /** In words, the first of them. */
  readonly faults: readonly string[];
}

interface Row {
  readonly organization_id: string;
  readonly seq: string;
  readonly entry: string;
  readonly previous_hash: string;
  readonly hash: string;
  readonly salt: string | null;
  readonly address: string | null;
}

/**
 * Reads every entry, oldest first, and says what does not fit: within a chain, with the heads in the database, with the
 * heads that were exported from it, with the addresses that are still known.
 * @param client in one snapshot, as chains grow while they are read
 */
export async function verify(client: Client, exported: readonly AuditHead[]): Promise<Found> {
  const faults: string[] = [];
  const fault = (organizationId: string, text: string) => {
    if (faults.length < MAX_FAULTS) faults.push(`${organizationId || 'the platform'}: ${text}`);
  };
  const expected = new Map(exported.map((head) => [`${head.organizationId}\n${head.seq}`, head]));
  for (const head of exported)
    if (expected.get(`${head.organizationId}\n${head.seq}`) !== head)
      fault(head.organizationId, `two heads with the number ${head.seq} were exported`);

  const ends = new Map<string, { seq: number; hash: string }>();
  let entries = 0;
  let addresses = 0;
  let met = 0;
  for await (const row of rows(client)) {
    const { organization_id: organizationId, entry, hash, previous_hash: previousHash } = row;
    const next = { organizationId, seq: Number(row.seq), entry, hash, previousHash };
    const wrong = chainFault(ends.get(organizationId) ?? { seq: 0, hash: '' }, next);
    if (wrong !== undefined) fault(organizationId, wrong);
    ends.set(organizationId, next);
    entries += 1;

    const head = expected.get(`${organizationId}\n${next.seq}`);
    if (head) {
      expected.delete(`${organizationId}\n${next.seq}`);
      met += 1;
      if (head.hash !== hash) fault(organizationId, `entry ${next.seq} is not the one whose head was exported`);
    }
    if (row.address !== null) {
      addresses += 1;
      const digest = addressDigest(row.salt!, row.address);
      if ((JSON.parse(entry) as { addressDigest: unknown }).addressDigest !== digest)
        fault(organizationId, `the address of entry ${next.seq} is not the one it was made with`);
    }
  }
  for (const { organizationId, seq } of expected.values())
    fault(organizationId, `entry ${seq}, whose head was exported, is gone`);

  const heads = await client.query<{ organization_id: string; seq: string; hash: string }>('select * from audit_heads');
  const known = new Map(heads.rows.map((head) => [head.organization_id, head]));
  for (const [organizationId, end] of ends) {
    const head = known.get(organizationId);
    if (Number(head?.seq) !== end.seq || head?.hash !== end.hash)
      fault(organizationId, `the chain ends at entry ${end.seq}, its head says ${head?.seq ?? 'nothing'}`);
  }
  for (const organizationId of known.keys())
    if (!ends.has(organizationId)) fault(organizationId, 'there is a head without a chain');
  return { chains: ends.size, entries, addresses, heads: met, faults };
}

async function* rows(client: Client): AsyncGenerator<Row> {
  for (let after: [string, string] | undefined; ;) {
    const page = await client.query<Row>(
      `select e.organization_id, e.seq, e.entry, e.previous_hash, e.hash, a.salt, a.address
       from audit_entries e left join audit_addresses a using (organization_id, seq)
       where $1::text is null or (e.organization_id, e.seq) > ($1, $2::bigint)
       order by e.organization_id, e.seq limit ${PAGE}`,
      after ?? [null, null],
    );
    yield* page.rows;
    const last = page.rows.at(-1);
    if (last === undefined || page.rows.length < PAGE) return;
    after = [last.organization_id, last.seq];
  }
}
