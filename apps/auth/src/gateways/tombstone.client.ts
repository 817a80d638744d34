import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_TOMBSTONES, tombstonesResponseSchema, type Invalidation } from '@sluice/contracts/auth';
import { loggerFor, refusesToken, type ServiceTokens } from '@sluice/service-kit';
import { Agent, request } from 'undici';
import type { z } from 'zod';

type Answer = z.infer<typeof tombstonesResponseSchema>;

const ATTEMPT_MS = 1_000;
const PAUSE_MS = 100;
/** To one gateway; more pushes queue up for these. */
const CONNECTIONS = 16;

/** Tells gateways what is dead, and hears from each of them that it is. */
export class TombstoneClient {
  private readonly log = loggerFor('tombstones');
  private readonly agent = new Agent({
    connect: { timeout: ATTEMPT_MS },
    connections: CONNECTIONS,
    keepAliveTimeout: 30_000,
  });

  constructor(private readonly tokens: ServiceTokens) {}

  /**
   * True when this very process said that every one of them is dead there; tries until `signal`. Saying it twice does
   * no harm.
   *
   * The answer of another process is no confirmation, and says nothing of this one either. On one machine the other
   * could not listen where this one still does, but behind a proxy, or where an address was given to another machine,
   * the asked one may be alive and serve keys: it is left to the reaper, and until then to the end of its evidence.
   */
  async confirmed(
    gateway: { readonly boot: string; readonly url: string },
    invalidations: readonly Invalidation[],
    signal: AbortSignal,
  ): Promise<boolean> {
    for (let from = 0; from < invalidations.length;) {
      const asked = invalidations.slice(from, from + MAX_TOMBSTONES);
      const answer = await this.push(gateway.url, asked, signal).catch((err: unknown) => {
        if (!signal.aborted) this.log.debug({ err, boot: gateway.boot }, 'a gateway did not confirm');
      });
      if (answer && answer.boot !== gateway.boot) return false;
      if (answer && covers(answer.tombstones, asked)) from += MAX_TOMBSTONES;
      else await sleep(PAUSE_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return from >= invalidations.length;
    }
    return true;
  }

  async close(): Promise<void> {
    await this.agent.destroy();
  }

  private async push(url: string, asked: readonly Invalidation[], signal: AbortSignal): Promise<Answer> {
    const response = await request(`${url}/internal/tombstones`, {
      method: 'POST',
      headers: { authorization: await this.tokens.headerFor('gateway'), 'content-type': 'application/json' },
      body: JSON.stringify({ tombstones: asked }),
      dispatcher: this.agent,
      signal: AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)]),
    });
    const text = await response.body.text();
    if (refusesToken(response.statusCode, text)) throw this.tokens.refusedBy('gateway', url);
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
    return tombstonesResponseSchema.parse(JSON.parse(text));
  }
}

function covers(said: readonly Invalidation[], asked: readonly Invalidation[]): boolean {
  const versions = new Map(said.map(({ id, version }) => [id, version]));
  return asked.every(({ id, version }) => (versions.get(id) ?? 0) >= version);
}
