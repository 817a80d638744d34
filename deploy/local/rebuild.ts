// npm run rebuild -- SERVICE: hands the database of the running stack (or DATABASE_URL) to the service's own rebuild.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEMO = `${ROOT}.sluice/demo.json`;
const SERVICES = ['auth', 'metering'] as const;

const [service, ...args] = process.argv.slice(2);
if (!SERVICES.some((name) => name === service)) fail(`usage: npm run rebuild -- ${SERVICES.join('|')} [options]`);
const program = `${ROOT}apps/${service}/dist/rebuild/rebuild.cli.js`;
if (!existsSync(program)) fail(`${service} is not built: npm run build`);

const child = spawn(process.execPath, [program, ...args], {
  stdio: 'inherit',
  env: { ...process.env, DATABASE_URL: process.env['DATABASE_URL'] ?? databaseOf(service!) },
});
child.once('exit', (code) => process.exit(code ?? 1));

function databaseOf(name: string): string {
  if (!existsSync(DEMO)) fail('Sluice does not run here: start it (npm start), or give DATABASE_URL');
  const { backing } = JSON.parse(readFileSync(DEMO, 'utf8')) as { backing: { postgresUrls: Record<string, string> } };
  return backing.postgresUrls[name]!;
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}
