import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Pool } from 'undici';
import { freePorts } from '@sluice/testing';
import { Supervised, type Program } from '../../../deploy/local/supervisor.ts';
import { newFolder, startTestStack, type TestStack } from '../../stack.ts';
import { BuildCopy, type Patch } from '../revocation/build.ts';
import { Synced } from './synced.ts';

export const GATEWAYS = 2;
const READY_MS = 60_000;
/** Answers that last long enough to be cut. */
const WORKERS = {
  PREFILL_TOKENS_PER_SECOND: '100000',
  PREFILL_OVERHEAD_MS: '1',
  DECODE_MS: '6',
  DECODE_MS_PER_SEQUENCE: '0',
  SLOTS: '256',
};

export interface Gateway {
  readonly index: number;
  readonly process: Supervised;
  readonly http: Pool;
  /** Its own, and nobody else's. */
  readonly journals: string;
  readonly synced: Synced;
}

/** A whole Sluice with two gateways, each with journals of its own, on a copy of what is built. */
export class Cluster {
  readonly stack: TestStack;
  readonly gateways: readonly Gateway[];
  private readonly dir: string;

  private constructor(stack: TestStack, gateways: readonly Gateway[], dir: string) {
    this.stack = stack;
    this.gateways = gateways;
    this.dir = dir;
  }

  /** @throws PatchError */
  static async start(patches: readonly Patch[] = []): Promise<Cluster> {
    const dir = newFolder('prove-');
    const build = new BuildCopy(dir, patches);
    const stack = await startTestStack({
      workerEnv: WORKERS,
      serviceEnv: { gateway: { GATEWAYS: String(GATEWAYS) } },
      rewire: (program) => {
        const rewired = { ...program, script: build.locate(program.script) };
        return program.name === 'gateway' ? traced(rewired, dir) : rewired;
      },
    });
    const first = stack.services.gateway;
    const [port] = await freePorts(1);
    const second = new Supervised(traced(sibling(first.program, port!), dir), () => {});
    try {
      second.start();
      await second.ready(READY_MS);
    } catch (error) {
      await second.stop();
      await stack.stop();
      throw error;
    }
    const gateways = [first, second].map((process, index): Gateway => {
      const http = new Pool(process.program.readyUrl.replace('/readyz', ''), {
        connections: 128,
        connectTimeout: 5_000,
      });
      const { JOURNAL_DIR: journals, FSYNC_TRACE: trace } = process.program.env;
      return { index, process, http, journals: journals!, synced: new Synced(trace!) };
    });
    return new Cluster(stack, gateways, dir);
  }

  /** Journals of dead boots that nobody has finished: every gateway keeps one of its own. */
  unfinishedJournals(): number {
    return this.gateways.reduce((sum, { journals }) => sum + readdirSync(journals).length - 1, 0);
  }

  async stop(): Promise<void> {
    await Promise.all(this.gateways.map(({ http }) => http.destroy()));
    await this.gateways[1]!.process.stop();
    await this.stack.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** With what writes down which ENDs are on the disk. */
const traced = (program: Program, dir: string): Program => ({
  ...program,
  env: {
    ...program.env,
    NODE_OPTIONS: `--import ${new URL('fsync-trace.mjs', import.meta.url).href}`,
    FSYNC_TRACE: join(dir, `${program.name}.synced`),
  },
});

function sibling(first: Program, port: number): Program {
  const journals = `${first.env['JOURNAL_DIR']!}-2`;
  mkdirSync(journals, { recursive: true, mode: 0o700 });
  return {
    ...first,
    name: 'gateway-2',
    env: { ...first.env, PORT: String(port), JOURNAL_DIR: journals },
    log: join(first.log, '..', 'gateway-2.log'),
    readyUrl: `http://${first.env['HOST']}:${port}/readyz`,
  };
}
