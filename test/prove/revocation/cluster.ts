import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { freePorts } from '@sluice/testing';
import { Supervised, type Program } from '../../../deploy/local/supervisor.ts';
import { newFolder, startTestStack, type TestStack } from '../../stack.ts';
import { BuildCopy, type Patch } from './build.ts';
import { Proxy } from './proxy.ts';

export const GATEWAYS = 3;
const READY_MS = 60_000;
const LEASE_MS = 20_000;
/** Workers whose streams last, and whose first byte comes at once. */
const SLOW_STREAMS = {
  PREFILL_TOKENS_PER_SECOND: '1000000',
  PREFILL_OVERHEAD_MS: '1',
  DECODE_MS: '40',
  DECODE_MS_PER_SEQUENCE: '0',
  SLOTS: '1000',
};

/** What lies between a gateway and the others. */
export interface Links {
  readonly nats: Proxy;
  readonly auth: Proxy;
  readonly router: Proxy;
  readonly billing: Proxy;
  /** Where auth pushes to. */
  readonly push: Proxy;
}

export interface Gateway {
  readonly index: number;
  readonly name: string;
  readonly url: string;
  readonly process: Supervised;
  readonly links: Links;
  /** Straight to it: what lies between is not what is tried here. */
  readonly http: Pool;
}

/** A whole Sluice with three gateways and a proxy in each link that a revoke depends on. */
export class Cluster {
  readonly stack: TestStack;
  readonly gateways: readonly Gateway[];
  /** Between auth and NATS. */
  readonly authNats: Proxy;
  private readonly dir: string;

  private constructor(stack: TestStack, gateways: readonly Gateway[], authNats: Proxy, dir: string) {
    this.stack = stack;
    this.gateways = gateways;
    this.authNats = authNats;
    this.dir = dir;
  }

  /** @throws PatchError */
  static async start(patches: readonly Patch[] = []): Promise<Cluster> {
    const dir = newFolder('prove-');
    const build = new BuildCopy(dir, patches);
    const authNats = await Proxy.listen('auth-nats');
    const links = await Promise.all(Array.from({ length: GATEWAYS }, (_, i) => linksOf(i)));
    const rewire = (program: Program): Program => {
      const script = build.locate(program.script);
      if (program.name === 'auth')
        return { ...program, script, env: { ...program.env, NATS_URL: authNats.through(program.env['NATS_URL']!) } };
      return program.name === 'gateway' ? led({ ...program, script }, links[0]!) : { ...program, script };
    };
    let direct: Program | undefined;
    const stack = await startTestStack({
      workers: 1,
      workerEnv: SLOW_STREAMS,
      rewire: (program) => {
        if (program.name === 'gateway') direct = program;
        return rewire(program);
      },
    });
    const processes = [stack.services.gateway];
    try {
      const ports = await freePorts(GATEWAYS - 1);
      for (const [i, port] of ports.entries()) {
        const another = new Supervised(
          sibling({ ...direct!, script: build.locate(direct!.script) }, i + 2, port, links[i + 1]!),
          () => {},
        );
        processes.push(another);
        another.start();
      }
      await Promise.all(processes.map((one) => one.ready(READY_MS)));
    } catch (error) {
      for (const one of processes) await one.stop();
      await stack.stop();
      throw error;
    }
    const gateways = processes.map((process, index): Gateway => {
      const url = process.program.readyUrl.replace('/readyz', '');
      const http = new Pool(url, { connections: 512, headersTimeout: 0, bodyTimeout: 0, connectTimeout: 5_000 });
      return { index, name: `gateway ${index + 1}`, url, process, links: links[index]!, http };
    });
    const cluster = new Cluster(stack, gateways, authNats, dir);
    await cluster.whenLeased();
    return cluster;
  }

  /** From now on the checker sees what gateways send to the router. */
  watch(checker: { dispatched(bytes: Buffer, gateway: string): void }): void {
    for (const { name, links } of this.gateways) links.router.up.tap = (bytes) => checker.dispatched(bytes, name);
  }

  get proxies(): Proxy[] {
    return [this.authNats, ...this.gateways.flatMap(({ links }) => Object.values(links) as Proxy[])];
  }

  /** Everything runs and every link passes again. */
  heal(): void {
    for (const proxy of this.proxies) proxy.heal();
    this.stack.services.auth.kill('SIGCONT');
    for (const { process } of this.gateways) process.kill('SIGCONT');
  }

  /** Every gateway is registered and follows the feed. @throws Error when that does not come about */
  async whenLeased(): Promise<void> {
    for (const until = performance.now() + LEASE_MS; ; await sleep(50)) {
      const left = await Promise.all(this.gateways.map(leaseOf));
      if (left.every((seconds) => seconds > 1)) return;
      if (performance.now() > until)
        throw new Error(`the gateways' feed leases after ${LEASE_MS / 1000} s: ${left.join(', ')}`);
    }
  }

  async stop(): Promise<void> {
    this.heal();
    // Streams still open are of no more use.
    await Promise.all(this.gateways.map(({ http }) => http.destroy()));
    await Promise.all(this.gateways.slice(1).map(({ process }) => process.stop()));
    await this.stack.stop();
    await Promise.all(this.proxies.map((proxy) => proxy.close()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function linksOf(index: number): Promise<Links> {
  const names = ['nats', 'auth', 'router', 'billing', 'push'] as const;
  const made = await Promise.all(
    names.map(async (name) => [name, await Proxy.listen(`${name} ${index + 1}`)] as const),
  );
  return Object.fromEntries(made) as unknown as Links;
}

/** A gateway whose every link goes through its proxies. */
function led(program: Program, { nats, auth, router, billing, push }: Links): Program {
  const env: Record<string, string> = { ...program.env };
  env['NATS_URL'] = nats.through(env['NATS_URL']!);
  env['AUTH_URL'] = auth.through(env['AUTH_URL']!);
  env['ROUTER_URL'] = router.through(env['ROUTER_URL']!);
  env['BILLING_URL'] = billing.through(env['BILLING_URL']!);
  env['GATEWAY_URL'] = push.through(`http://${env['HOST']}:${env['PORT']}`);
  env['GATEWAYS'] = String(GATEWAYS);
  return { ...program, env };
}

/** Another gateway beside the first: its own port, journal, log. */
function sibling(first: Program, number: number, port: number, links: Links): Program {
  const journal = `${first.env['JOURNAL_DIR']!}-${number}`;
  mkdirSync(journal, { recursive: true, mode: 0o700 });
  const env = {
    ...first.env,
    PORT: String(port),
    JOURNAL_DIR: journal,
    NODE_OPTIONS: `--import ${new URL('standing-clock.mjs', import.meta.url).href}`,
  };
  const name = `gateway-${number}`;
  return led(
    {
      ...first,
      name,
      env,
      log: join(first.log, '..', `${name}.log`),
      readyUrl: `http://${first.env['HOST']}:${port}/readyz`,
    },
    links,
  );
}

/** Seconds that a gateway's feed lease still holds; 0 for one that does not answer. */
async function leaseOf({ url }: Gateway): Promise<number> {
  try {
    const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(1_000) });
    return Number(/^gateway_feed_lease_seconds(?:\{[^}]*\})? (\S+)$/m.exec(await response.text())?.[1] ?? 0);
  } catch {
    return 0;
  }
}
