import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../runner/random.ts';
import { dataOf, send, type Call } from './client.ts';
import type { Cluster, Gateway } from './cluster.ts';

const PATIENCE_MS = 150_000;
const TRY_MS = 4_000;

/** The owner's desk: management calls that get through in the end, whatever is broken meanwhile. */
export class Desk {
  readonly cluster: Cluster;
  private readonly random: Random;
  /** Gateways that are stopped or cut off just now: nobody would send a command there. */
  private readonly avoided: (gateway: Gateway) => boolean;

  constructor(cluster: Cluster, random: Random, avoided: (gateway: Gateway) => boolean = () => false) {
    this.cluster = cluster;
    this.random = random;
    this.avoided = avoided;
  }

  gateway(): Gateway {
    const { gateways } = this.cluster;
    const sound = gateways.filter((gateway) => !this.avoided(gateway));
    return this.random.pick(sound.length > 0 ? sound : gateways);
  }

  /** One try. */
  once(call: Call, via = this.gateway(), timeoutMs = TRY_MS): Promise<{ status: number; text: string } | undefined> {
    return send(via, call, undefined, timeoutMs);
  }

  /** `data` of the answer, after as many tries as it takes. @throws Error on a refusal, or when nothing gets through */
  async must<T>(method: Call['method'], path: string, body?: unknown, secret = this.managementKey): Promise<T> {
    for (const until = performance.now() + PATIENCE_MS; ; await sleep(100)) {
      const answer = await this.once({ method, path, body, secret });
      if (answer && answer.status < 300) return answer.text === '' ? (undefined as T) : dataOf<T>(answer.text);
      const refused = answer !== undefined && answer.status < 500 && answer.status !== 429;
      if (refused || performance.now() > until)
        throw new Error(`${method} ${path}: ${answer === undefined ? 'no answer' : `${answer.status} ${answer.text}`}`);
    }
  }

  get managementKey(): string {
    return this.cluster.stack.demo.managementKey;
  }

  get operatorKey(): string {
    return this.cluster.stack.operatorKey;
  }

  get organizationId(): string {
    return this.cluster.stack.demo.organizationId;
  }
}
