import { auditHash } from '@sluice/contracts/audit';
import type { Client } from 'pg';

/** What somebody does who has the database, its superuser and this source: but not the file of heads. */
export interface Tampering {
  readonly name: string;
  /** Whether the database alone shows nothing, so that it is found by the exported heads or not at all. */
  readonly onlyByHeads: boolean;
  readonly apply: (client: Client, where: Place) => Promise<void>;
}

export interface Place {
  readonly organizationId: string;
  /** Neither the first nor the last of its chain, and not after the exported head. */
  readonly seq: number;
}

const ALTERED = `replace(entry, '"actor":"', '"actor":"not-')`;

export const TAMPERINGS: readonly Tampering[] = [
  {
    name: 'altered',
    onlyByHeads: false,
    apply: async (client, place) => run(client, `update audit_entries set entry = ${ALTERED} where ${AT}`, place),
  },
  {
    name: 'altered, with its hash made anew',
    onlyByHeads: false,
    apply: async (client, place) => {
      await run(client, `update audit_entries set entry = ${ALTERED} where ${AT}`, place);
      await chainAnew(client, place, 1);
    },
  },
  {
    name: 'removed',
    onlyByHeads: false,
    apply: async (client, place) => run(client, `delete from audit_entries where ${AT}`, place),
  },
  {
    name: 'removed, those behind it moved up',
    onlyByHeads: true,
    apply: async (client, place) => {
      await run(client, `delete from audit_entries where ${AT}`, place);
      await run(client, 'delete from audit_addresses where organization_id = $1 and seq >= $2', place);
      // One after the other, as no two may have the same number.
      const behind = await client.query<{ seq: string }>(
        'select seq from audit_entries where organization_id = $1 and seq > $2 order by seq',
        [place.organizationId, place.seq],
      );
      for (const { seq } of behind.rows)
        await run(client, `update audit_entries set seq = seq - 1 where ${AT}`, { ...place, seq: Number(seq) });
      await chainAnew(client, place);
    },
  },
  {
    name: 'the newest ones removed, with the head',
    onlyByHeads: true,
    apply: async (client, place) => {
      await run(client, 'delete from audit_entries where organization_id = $1 and seq > $2', place);
      await run(client, 'delete from audit_addresses where organization_id = $1 and seq > $2', place);
      await chainAnew(client, place);
    },
  },
  {
    name: 'the chain rewritten from there on',
    onlyByHeads: true,
    apply: async (client, place) => {
      await run(client, `update audit_entries set entry = ${ALTERED} where ${AT}`, place);
      await chainAnew(client, place);
    },
  },
  {
    name: 'the whole chain removed',
    onlyByHeads: true,
    apply: async (client, { organizationId }) => {
      for (const table of ['audit_entries', 'audit_heads', 'audit_addresses'])
        await client.query(`delete from ${table} where organization_id = $1`, [organizationId]);
    },
  },
  {
    name: 'an address exchanged',
    onlyByHeads: false,
    apply: async (client, place) =>
      run(client, `update audit_addresses set address = '203.0.113.1' where ${AT}`, place),
  },
];

const AT = 'organization_id = $1 and seq = $2';

async function run(client: Client, statement: string, { organizationId, seq }: Place): Promise<void> {
  const { rowCount } = await client.query(statement, [organizationId, seq]);
  if (!rowCount) throw new Error(`nothing was tampered with: ${statement}`);
}

/** Hashes from a place on, all of them or as many as said, and the head: consistent in itself. */
async function chainAnew(client: Client, { organizationId, seq: from }: Place, count = Infinity): Promise<void> {
  const { rows } = await client.query<{ seq: string; entry: string; hash: string }>(
    'select seq, entry, hash from audit_entries where organization_id = $1 and seq >= $2 order by seq',
    [organizationId, from - 1],
  );
  let previousHash = rows[0]!.hash;
  for (const { seq, entry } of rows.slice(1, count === Infinity ? undefined : count + 1)) {
    const hash = auditHash({ organizationId, seq: Number(seq), previousHash, entry });
    await client.query(`update audit_entries set previous_hash = $3, hash = $4 where ${AT}`, [
      organizationId,
      seq,
      previousHash,
      hash,
    ]);
    previousHash = hash;
  }
  if (count !== Infinity) return;
  const last = rows.at(-1)!;
  await client.query('update audit_heads set seq = $2, hash = $3 where organization_id = $1', [
    organizationId,
    last.seq,
    previousHash,
  ]);
}
