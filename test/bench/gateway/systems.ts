import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startTestStack, type TestStack } from '../../stack.ts';
import { startBareProxy, startNginx, startPortkey, type Child } from './children.ts';
import type { SystemName } from './cases.ts';
import { credit, issueKey, seedSecrets } from './keys.ts';
import { findTools, type Tools } from './tools.ts';

const UPSTREAM = fileURLToPath(new URL('upstream.ts', import.meta.url));

export interface System {
  readonly name: SystemName;
  readonly url: string;
  /** Beside those that all get. */
  readonly headers: Readonly<Record<string, string>>;
  /** By name, the processes that work for its requests. */
  processes(): Readonly<Record<string, number>>;
}

/** Everything that runs for one run of the bench, beside the load. */
export interface Grounds {
  readonly stack: TestStack;
  readonly tools: Tools;
  readonly systems: readonly System[];
  readonly versions: Readonly<Record<string, string>>;
  readonly upstream: () => number;
  /** A file with the secrets of so many keys. */
  keys(count: number): string;
  stop(): Promise<void>;
}

export interface GroundsOptions {
  readonly manyKeys: boolean;
  /** Where the gateway's journal is; in the stack's folder where it is not given. */
  readonly journal: string | undefined;
  /** Ports on 127.0.0.1 on which gateway and router let themselves be profiled. */
  readonly inspect: { readonly gateway: number; readonly router: number } | undefined;
  readonly say: (line: string) => void;
  readonly stopping: AbortSignal;
}

export async function prepareGrounds(options: GroundsOptions): Promise<Grounds> {
  const { say, stopping } = options;
  const tools = await findTools(say);
  const stack = await startTestStack({
    workers: 1,
    prefer: 'local',
    rewire: (program) => (program.name === 'worker-1' ? { ...program, script: UPSTREAM } : program),
    serviceEnv: serviceEnv(options),
  });
  const started: Child[] = [];
  const stop = async () => {
    for (const child of started.toReversed()) await child.stop();
    await stack.stop();
  };
  try {
    const target = stack.workers[0]!.url;
    const start = async <C extends Child>(starting: Promise<C>): Promise<C> => {
      const child = await starting;
      started.push(child);
      return child;
    };
    const one = await start(startBareProxy(target, stack.dir));
    const two = await start(startBareProxy(one.url, stack.dir));
    const portkey = await start(startPortkey(stack.dir));
    const nginx = tools.nginx && (await start(startNginx(tools.nginx, target, stack.dir)));

    await credit(stack);
    const key = await issueKey(stack);
    const oneKey = join(stack.dir, 'key.txt');
    writeFileSync(oneKey, key.secret, { mode: 0o600 });
    const manyKeys = options.manyKeys ? await seedSecrets(stack, key.id, stopping) : undefined;

    const plain = (name: SystemName, url: string, processes: Record<string, number>): System => ({
      name,
      url,
      headers: {},
      processes: () => processes,
    });
    const systems: System[] = [
      plain('direct', target, {}),
      plain('bare-1', one.url, { 'hop 1': one.pid }),
      plain('bare-2', two.url, { 'hop 1': two.pid, 'hop 2': one.pid }),
      ...(nginx ? [plain('nginx', nginx.url, { nginx: nginx.pid })] : []),
      {
        ...plain('portkey', portkey.url, { portkey: portkey.pid }),
        headers: { 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `${target}/v1` },
      },
      { name: 'sluice', url: stack.baseUrl, headers: {}, processes: () => sluiceProcesses(stack) },
    ];
    return {
      stack,
      tools,
      systems,
      versions: {
        load: tools.wrk ? `wrk ${tools.wrk.version}` : 'autocannon',
        nginx: tools.nginx?.version ?? `not there (${tools.why ?? 'no binary'})`,
        portkey: portkey.version,
        backing: stack.backing.reason,
      },
      upstream: () => stack.workers[0]!.process.pid!,
      keys: (count) => (count === 1 ? oneKey : manyKeys!),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function serviceEnv({ inspect, journal }: GroundsOptions) {
  const inspected = (port: number | undefined): Record<string, string> =>
    port === undefined ? {} : { NODE_OPTIONS: `--inspect=127.0.0.1:${port}` };
  return {
    gateway: { ...inspected(inspect?.gateway), ...(journal === undefined ? {} : { JOURNAL_DIR: journal }) },
    router: inspected(inspect?.router),
  };
}

/** Servers that are no private processes of ours (containers) cannot be looked at: they are left out. */
export function sluiceProcesses({ services, dir }: TestStack): Record<string, number> {
  const own = Object.entries(services).map(([name, { pid }]) => [name, pid]);
  const servers = ['redis', 'nats', 'postgres'].flatMap((name) => {
    const file = join(dir, 'backing', `${name}.pid`);
    return existsSync(file) ? [[name, Number(readFileSync(file, 'utf8'))]] : [];
  });
  return Object.fromEntries([...own, ...servers]) as Record<string, number>;
}
