// npm run quarantine: what operators do about usage records that metering or billing set aside. Through the gateway, with the
// operator credential of the running stack, or of SLUICE_OPERATOR_KEY at SLUICE_URL; what is decided is in the audit.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const DEMO = fileURLToPath(new URL('../.sluice/demo.json', import.meta.url));
const SERVICES = ['metering', 'billing'] as const;
const ANSWER_MS = 30_000;

const USAGE = `usage: npm run quarantine -- COMMAND SERVICE   (SERVICE: metering or billing)
  list SERVICE [--json]                     what was set aside and waits, with the reason
  show SERVICE HASH                         one record, whole
  redrive SERVICE HASH… | --all             books what can be booked by now, once; the rest stays
  drop SERVICE HASH… --reason TEXT          gives them up: they are never booked, and kept with the reason`;

/** Not a command of this tool. */
class Misused extends Error {}

interface Aside {
  readonly hash: string;
  readonly id: string;
  readonly reason: string;
  readonly source: string;
  readonly setAsideAt: string;
}

/** A call of the management plane. @returns its answer; undefined where there is no such record */
export type Ask = (
  method: string,
  path: string,
  body?: object,
) => Promise<{ readonly data: unknown; readonly nextCursor?: string | null } | undefined>;
type Print = (line: string) => void;

/** @returns the exit code: 1 when something is not there or stays, 2 when it was not said what to do */
export async function quarantine(args: readonly string[], ask: Ask, print: Print): Promise<number> {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        all: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        reason: { type: 'string', default: '' },
      },
    });
    const [command, service, ...hashes] = positionals;
    if (!SERVICES.some((name) => name === service)) throw new Misused('of which service?');
    const wrong = hashes.find((hash) => !/^[\w-]{1,64}$/.test(hash));
    if (wrong !== undefined) throw new Misused(`not the hash of a record: ${wrong}`);
    const path = `/api/operator/quarantine/${service}`;
    if (command === 'list' && hashes.length === 0) return await list(path, ask, print, values.json);
    if (command === 'show' && hashes.length === 1) return await show(`${path}/${hashes[0]}`, ask, print);
    if (command === 'redrive' && hashes.length > 0 !== values.all) {
      // All at first: what is booked changes the pages.
      const named = values.all ? (await all(path, ask)).map(({ hash }) => hash) : hashes;
      return await each(named, (hash) => ask('POST', `${path}/${hash}/redrive`), print);
    }
    if (command === 'drop' && hashes.length > 0) {
      if (!/\S/.test(values.reason)) throw new Misused('drop: --reason is missing');
      return await each(hashes, (hash) => ask('POST', `${path}/${hash}/drop`, { reason: values.reason }), print);
    }
    throw new Misused(command === undefined ? 'what?' : `not like this: ${command}`);
  } catch (error) {
    const misused = error instanceof Misused || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
    if (!misused) throw error;
    print(`${(error as Error).message}\n${USAGE}`);
    return 2;
  }
}

async function all(path: string, ask: Ask): Promise<Aside[]> {
  const found: Aside[] = [];
  for (let cursor: string | null | undefined = ''; cursor !== null && cursor !== undefined;) {
    const page = await ask('GET', cursor === '' ? path : `${path}?cursor=${cursor}`);
    found.push(...((page?.data ?? []) as Aside[]));
    cursor = page?.nextCursor;
  }
  return found;
}

async function list(path: string, ask: Ask, print: Print, json: boolean): Promise<number> {
  const found = await all(path, ask);
  for (const one of found)
    print(json ? JSON.stringify(one) : `${one.hash}  ${one.setAsideAt}  ${one.reason}  request ${one.id}`);
  if (!json) print(found.length === 0 ? 'nothing was set aside' : `${found.length} set aside`);
  return 0;
}

async function show(path: string, ask: Ask, print: Print): Promise<number> {
  const found = await ask('GET', path);
  print(found ? JSON.stringify(found.data, undefined, 2) : 'it does not wait in quarantine (any more)');
  return found ? 0 : 1;
}

async function each(
  hashes: readonly string[],
  decide: (hash: string) => ReturnType<Ask>,
  print: Print,
): Promise<number> {
  let code = 0;
  for (const hash of hashes) {
    const answer = await decide(hash);
    const { result, reason } = (answer?.data ?? { result: 'not there (any more)' }) as {
      result: string;
      reason?: string;
    };
    print(`${hash}  ${result}${reason === undefined ? '' : `: ${reason}`}`);
    if (!answer || result === 'stays') code = 1;
  }
  return code;
}

/** @throws Error with the sentence of the refusal */
function asking(baseUrl: string, operatorKey: string): Ask {
  return async (method, path, body) => {
    const response = await fetch(baseUrl + path, {
      method,
      headers: {
        authorization: `Bearer ${operatorKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const answer = (await response.json()) as { data: unknown; error?: { message: string } };
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(answer.error?.message ?? `status ${response.status}`);
    return answer;
  };
}

function where(): { baseUrl: string; operatorKey: string } {
  const { SLUICE_URL, SLUICE_OPERATOR_KEY } = process.env;
  if (SLUICE_OPERATOR_KEY) return { baseUrl: SLUICE_URL ?? 'http://127.0.0.1:8787', operatorKey: SLUICE_OPERATOR_KEY };
  if (!existsSync(DEMO)) throw new Error('Sluice does not run here: start it (npm start), or give SLUICE_OPERATOR_KEY');
  return JSON.parse(readFileSync(DEMO, 'utf8')) as { baseUrl: string; operatorKey: string };
}

if (import.meta.main) {
  try {
    const { baseUrl, operatorKey } = where();
    process.exitCode = await quarantine(process.argv.slice(2), asking(baseUrl, operatorKey), (line) =>
      console.log(line),
    );
  } catch (error) {
    console.error(`quarantine: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
