// The local stack in the foreground: what `npm start` becomes once packages, Node 24 and the build are there.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { dropBacking } from '@sluice/testing';
import { ensureDemo, type Demo } from './demo.ts';
import { startStack, type Stack } from './stack.ts';
import { say, step } from './steps.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PORT = 8787;
const USAGE = `npm start [-- options]
  --fresh        drop the data of earlier runs first
  --dir DIR      where data, logs and secrets are (default .sluice)
  --port N       of the gateway (default ${PORT}, a free one where that is taken; 0: a free one)
  --help`;

const values = options();

function options() {
  try {
    const { values } = parseArgs({
      options: {
        fresh: { type: 'boolean', default: false },
        dir: { type: 'string', default: join(ROOT, '.sluice') },
        port: { type: 'string', default: String(PORT) },
        help: { type: 'boolean', default: false },
      },
    });
    const port = Number(values.port);
    if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`--port ${values.port} is not a port.`);
    return { ...values, port };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`);
    return process.exit(2);
  }
}

/** Of all that may lie in `.sluice`, what a run of the stack leaves. */
const OURS = ['secrets.json', 'demo.json', 'nats.conf', 'journal', 'workers', 'logs'];

async function main(): Promise<void> {
  const { dir } = values;
  let stack: Stack | undefined;
  let stopping: Promise<void> | undefined;
  const stop = (signal: string) => {
    stopping ??= (async () => {
      console.log(`\n${signal}: stopping`);
      await stack?.stop();
    })();
    void stopping.then(() => process.exit(0));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(signal));

  if (values.fresh) {
    await dropBacking(join(dir, 'backing'));
    for (const name of OURS) rmSync(join(dir, name), { recursive: true, force: true });
  }
  const started = performance.now();
  stack = await startStack({
    dir,
    keep: true,
    prefer: 'local',
    ...(values.port === 0 ? {} : { port: values.port }),
    say,
    step,
  });
  if (stopping) return stack.stop();
  const ready = stack;
  const file = join(dir, 'demo.json');
  const demo = await step('a demo organization with credit and keys', () => ensureDemo(ready, file));
  console.log(greeting(demo, file, (performance.now() - started) / 1000));
}

const greeting = (demo: Demo, file: string, seconds: number): string => `
Sluice is ready (${seconds.toFixed(1)} s). Ctrl-C stops it; data is kept, \`npm start -- --fresh\` drops it.

  base URL        ${demo.baseUrl}
  operator        ${demo.operatorKey}
  management key  ${demo.managementKey}
  inference key   ${demo.inferenceKey}
  model           ${demo.models.join(', ')}
  all of this     ${file}

Call a model:

  curl ${demo.baseUrl}/v1/chat/completions \\
    -H "Authorization: Bearer ${demo.inferenceKey}" \\
    -H "Content-Type: application/json" \\
    -d '{"model": "${demo.model}", "messages": [{"role": "user", "content": "Hello!"}]}'

The same with the openai package (save as hello.mjs in this folder, run with: npx node hello.mjs):

  import OpenAI from 'openai';
  const client = new OpenAI({ baseURL: '${demo.baseUrl}/v1', apiKey: '${demo.inferenceKey}' });
  const answer = await client.chat.completions.create({
    model: '${demo.model}',
    messages: [{ role: 'user', content: 'Hello!' }],
  });
  console.log(answer.choices[0].message.content, answer.usage);

See what it cost:

  curl ${demo.baseUrl}/api/billing/status -H "Authorization: Bearer ${demo.managementKey}"
  curl "${demo.baseUrl}/api/usage?groupBy=key,model" -H "Authorization: Bearer ${demo.managementKey}"
`;

if (values.help) console.log(USAGE);
else {
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  });
}
