// What is made from the code and committed: `npm run generate` writes it, `npm run check` fails when it is not as the code
// says. JSON Schemas of the public events, for teams that consume them; the error table of the README.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AUTH_EVENTS } from '@sluice/contracts/auth';
import { BILLING_EVENTS } from '@sluice/contracts/billing';
import { METERING_EVENTS } from '@sluice/contracts/metering';
import { ERRORS, inAnthropic, type ErrorCode } from '@sluice/contracts/errors';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SCHEMAS = 'libs/contracts/schemas';
const BEGIN = '<!-- errors -->';
const END = '<!-- /errors -->';

/** Every generated file, by its path from the root, as it has to be. */
export function generated(): Map<string, string> {
  const files = new Map<string, string>();
  for (const event of [...AUTH_EVENTS, ...BILLING_EVENTS, ...METERING_EVENTS]) {
    const type = event.shape.type.value;
    const schema = { title: type, ...z.toJSONSchema(event, { target: 'draft-2020-12', io: 'input' }) };
    files.set(`${SCHEMAS}/${type}.json`, `${JSON.stringify(schema, null, 2)}\n`);
  }
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const [before, after] = [readme.slice(0, readme.indexOf(BEGIN)), readme.slice(readme.indexOf(END))];
  files.set('README.md', `${before}${BEGIN}\n${errorTable()}\n${after}`);
  return files;
}

/** Paths of files that are not as the code says: changed, missing, or left over. */
export function stale(): string[] {
  const files = generated();
  const wrong = [...files].filter(([path, text]) => read(path) !== text).map(([path]) => path);
  const leftOver = readdirSync(join(ROOT, SCHEMAS)).filter((name) => !files.has(`${SCHEMAS}/${name}`));
  return [...wrong, ...leftOver.map((name) => `${SCHEMAS}/${name}`)];
}

const errorTable = (): string =>
  [
    '| code | status | under `/v1/messages` | meaning | remedy |',
    '|---|---|---|---|---|',
    ...Object.entries(ERRORS).map(
      ([code, { status, message, remedy }]) =>
        `| \`${code}\` | ${status} | ${onMessages(code as ErrorCode)} | ${message} | ${remedy} |`,
    ),
  ].join('\n');

/** Anthropic's type, and the status where it is another one there. */
function onMessages(code: ErrorCode): string {
  const { status, type } = inAnthropic(code);
  return `${status === ERRORS[code].status ? '' : `${status} `}\`${type}\``;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(join(ROOT, path), 'utf8');
  } catch {
    return undefined;
  }
}

if (import.meta.main && process.argv.includes('--check')) {
  const paths = stale();
  if (paths.length > 0) {
    console.error(`Not as the code says; run npm run generate:\n${paths.map((path) => `  ${path}`).join('\n')}`);
    process.exit(1);
  }
} else if (import.meta.main) {
  for (const [path, text] of generated()) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true });
    writeFileSync(join(ROOT, path), text);
  }
}
