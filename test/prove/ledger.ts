// npm run prove -- ledger: the books are whole, by their entries alone.
import { Client } from 'pg';
import { eventually, startTestStack } from '../stack.ts';
import { organizationsOf, readBooks, strayEntries, type Books } from './ledger/books.ts';
import { Load, type Moved } from './ledger/load.ts';
import { TAMPERINGS } from './ledger/tampering.ts';
import { verify } from './ledger/verify.ts';
import { wholeNumber, type Goal, type Program, type Run, type Verdict } from './runner/program.ts';

const SHOWN = 20;
const BOOKED_MS = 60_000;

export const program: Program = {
  about: 'every movement of money follows from the one before: nothing lost, doubled, negative or spent out of turn',
  options: { seconds: { type: 'string', default: '20' }, database: { type: 'string' } },
  usage: `  --seconds N      of load: grants, expiry, refunds, adjustments, requests, kill -9 of billing (20)
  --database URL   replay this database of billing instead, and change nothing
`,
  run: async (run) => {
    const { database } = run.values;
    if (typeof database === 'string') return verdictOf(await readAll(database), run);
    return proveOnItsOwn(run);
  },
};

interface All {
  readonly books: readonly Books[];
  readonly stray: number;
}

/** All books as they are at one moment. */
async function readAll(connectionString: string): Promise<All> {
  const client = new Client({ connectionString, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    await client.query('begin isolation level repeatable read read only');
    const books: Books[] = [];
    for (const organizationId of await organizationsOf(client)) books.push(await readBooks(client, organizationId));
    return { books, stray: await strayEntries(client) };
  } finally {
    await client.end();
  }
}

async function proveOnItsOwn(run: Run): Promise<Verdict> {
  const seconds = wholeNumber('seconds', run.values['seconds'], 1, 3_600);
  run.say('starting PostgreSQL, NATS, Redis, five services, workers');
  const stack = await startTestStack();
  try {
    run.say(`${seconds} s of load; billing is killed in between`);
    const moved = await new Load(stack, run.random).run(seconds, () => run.stopping.aborted);
    run.say(JSON.stringify(moved.counts));
    const booked = await settled(stack.databases.billing, moved);
    const all = await readAll(stack.databases.billing);
    const { figures, goals } = verdictOf(all, run);
    return {
      figures: { ...figures, kills: moved.kills, answers: moved.counts },
      goals: { ...goals, booked, ...againstAnswers(all, moved), tampering: tamper(all, run), tried: tried(all, moved) },
    };
  } finally {
    await stack.stop();
  }
}

/** Until what was answered is charged, and what has expired is booked so. */
async function settled(connectionString: string, { requests }: Moved): Promise<Goal> {
  const client = new Client({ connectionString, connectionTimeoutMillis: 5_000 });
  await client.connect();
  const left = async () => {
    const { rows } = await client.query<{ charged: number; expired: number }>(
      `select (select count(*)::int from charges where request_id = any($1)) as charged,
         (select count(*)::int from credit_lots where open and expires_at is not null) as expired`,
      [requests],
    );
    return requests.length - rows[0]!.charged + rows[0]!.expired;
  };
  try {
    await eventually(async () => (await left()) === 0, BOOKED_MS).catch(() => {});
    const value = await left();
    return { goal: '0 answered requests uncharged, 0 expired lots open', value, ok: value === 0 };
  } finally {
    await client.end();
  }
}

function verdictOf({ books, stray }: All, { say }: Run): Verdict {
  const faults = books.flatMap((one) => verify(one).map((fault) => `${one.organizationId}: ${fault}`));
  for (const fault of faults.slice(0, SHOWN)) say(`✗ ${fault}`);
  const kinds = Object.groupBy(
    books.flatMap(({ transactions }) => transactions),
    ({ kind }) => kind,
  );
  return {
    figures: {
      organizations: books.length,
      transactions: Object.fromEntries(Object.entries(kinds).map(([kind, of]) => [kind, of!.length])),
      charges: books.reduce((sum, { charges }) => sum + charges.length, 0),
      lots: books.reduce((sum, { lots }) => sum + lots.length, 0),
    },
    goals: {
      whole: { goal: 'no fault', value: faults.slice(0, SHOWN), ok: faults.length === 0 },
      stray: { goal: '0 entries of another organization’s accounts', value: stray, ok: stray === 0 },
    },
  };
}

/** What operators were told, and what is booked. */
function againstAnswers({ books }: All, { organizations, differing }: Moved): Record<string, Goal> {
  const unlike = organizations.flatMap(({ id, answered }) => {
    const balances = books.find(({ organizationId }) => organizationId === id)?.balances ?? {};
    return Object.entries(answered).flatMap(([account, told]) =>
      (balances[account] ?? 0n) === told ? [] : [`${id}: ${account} is ${balances[account]}, answered was ${told}`],
    );
  });
  return {
    asAnswered: { goal: 'what was answered is booked, and nothing else', value: unlike, ok: unlike.length === 0 },
    repeatable: { goal: 'a repetition is answered the same', value: differing, ok: differing.length === 0 },
  };
}

/** The same books with one thing wrong in them. */
function tamper({ books }: All, { say }: Run): Goal {
  const unseen: string[] = [];
  for (const { name, apply } of TAMPERINGS) {
    const found = books.flatMap((one) => {
      const wrong = apply(one);
      return wrong === undefined ? [] : [verify(wrong)];
    });
    const seen = found.length > 0 && found.every((faults) => faults.length > 0);
    if (!seen) unseen.push(name);
    say(`${seen ? '✓' : '✗'} ${name}: ${found[0]?.[0] ?? 'nothing found'}`);
  }
  return { goal: 'whatever is wrong is found', value: unseen, ok: unseen.length === 0 };
}

/** A run in which nothing happened shows nothing. */
function tried({ books }: All, { kills }: Moved): Goal {
  const kinds = new Set(books.flatMap(({ transactions }) => transactions.map(({ kind }) => kind)));
  const value = { kills, kinds: [...kinds].sort() };
  const all = ['credit', 'expiry', 'refund', 'adjustment', 'usage'].every((kind) => kinds.has(kind));
  return { goal: 'billing killed; credit, expiry, refund, adjustment, usage', value, ok: all && kills > 0 };
}
