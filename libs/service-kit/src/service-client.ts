import type { Actor, ServiceName } from '@sluice/contracts/actor';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import CircuitBreaker from 'opossum';
import { Pool } from 'undici';
import type { z } from 'zod';
import type { ServiceTokens } from './service-tokens.js';

export interface ServiceCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
  readonly actor?: Actor;
  /** Milliseconds for the whole call. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 2_000;
const CONNECTIONS = 16;
/** The breaker opens when half of at least this many calls in 10 s failed, and tries again after RESET_MS. */
const VOLUME_THRESHOLD = 10;
const RESET_MS = 1_000;

/**
 * Questions to another service: keep-alive, a deadline on every call, a breaker. A refusal of the other side is
 * passed on as what it is and does not open the breaker; but one of our own token says nothing of what was asked, and
 * is `unavailable`.
 */
export class ServiceClient {
  private readonly pool: Pool;
  private readonly breaker: CircuitBreaker<[ServiceCall]>;

  constructor(
    private readonly service: ServiceName,
    url: string,
    private readonly tokens: ServiceTokens,
  ) {
    this.pool = new Pool(url, { connections: CONNECTIONS, connectTimeout: 1_000, keepAliveTimeout: 30_000 });
    this.breaker = new CircuitBreaker((call: ServiceCall) => this.send(call), {
      timeout: false, // each call brings its own
      errorThresholdPercentage: 50,
      volumeThreshold: VOLUME_THRESHOLD,
      resetTimeout: RESET_MS,
      errorFilter: (error: unknown) => error instanceof Rejected && ERRORS[error.code].status < 500,
    });
  }

  /** The answer's JSON, by its schema. @throws Rejected what the service refused with; `unavailable` when it can't be had */
  async ask<S extends z.ZodType>(call: ServiceCall, schema: S): Promise<z.infer<S>> {
    return schema.parse(await this.fire(call));
  }

  /** A call whose answer has no content of interest. */
  async tell(call: ServiceCall): Promise<void> {
    await this.fire(call);
  }

  async close(): Promise<void> {
    this.breaker.shutdown();
    await this.pool.destroy();
  }

  private async fire(call: ServiceCall): Promise<unknown> {
    try {
      return await this.breaker.fire(call);
    } catch (cause) {
      // Behind the breaker, which it does not open: that service is well and says so at once, another of its replicas
      // may take the token, and it works with the first call after the clocks or keys were mended.
      if (cause instanceof Rejected && cause.code === 'invalid_service_token')
        throw this.tokens.refusedBy(this.service);
      if (cause instanceof Rejected) throw cause;
      throw new Rejected('unavailable', `${this.service} does not answer.`, { retryAfter: 1, cause });
    }
  }

  private async send({ method, path, body, actor, timeoutMs = DEFAULT_TIMEOUT_MS }: ServiceCall): Promise<unknown> {
    const response = await this.pool.request({
      method,
      path,
      headers: {
        authorization: await this.tokens.headerFor(this.service, actor),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await response.body.text();
    if (response.statusCode >= 200 && response.statusCode < 300) return text === '' ? undefined : JSON.parse(text);
    throw refusal(response.statusCode, text, Number(response.headers['retry-after']));
  }
}

/** The other side's refusal as ours; what is not of the catalogue counts as a fault. */
function refusal(status: number, text: string, retryAfter: number): Error {
  try {
    const { error } = JSON.parse(text) as { error: { code: string; message: string; param?: string } };
    if (error.code in ERRORS) {
      return new Rejected(error.code as ErrorCode, error.message, {
        ...(error.param === undefined ? {} : { param: error.param }),
        ...(retryAfter > 0 ? { retryAfter } : {}),
      });
    }
  } catch {
    // not our dialect: below
  }
  return new Error(`status ${status}`);
}
