import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import { ROUTER_HEADERS } from '@sluice/contracts/router';
import { systemClock } from '@sluice/primitives/clock';
import { refusesToken, type ServiceTokens } from '@sluice/service-kit';
import { Pool } from 'undici';
import type { Upload } from '../audio/upload.service.js';
import type { KnownKey } from '../keys/known-key.js';
import type { Admission, Admitted } from './admission.service.js';
import { Answer } from './answer.js';

const CONNECTIONS = 512;
/** A router that is just being restarted is waited for: nothing was sent to it yet. */
const ROUTER_BACK_MS = 3_000;

/** What is asked of a worker, for an admitted request. */
export interface Errand {
  readonly requestId: string;
  readonly admitted: Pick<Admitted, 'digest' | 'use'>;
  readonly model: string;
  /** `<project>/<workload>` */
  readonly workload: string;
  /** Of the worker. */
  readonly path: string;
  /** Of the client's, for the worker. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** JSON, or a form that passes through. */
  readonly body: Buffer | Upload;
  /** Monotonic milliseconds. */
  readonly deadline: number;
  readonly signal: AbortSignal;
  /** What the journal has of it, as JSON; none where nothing is metered. */
  readonly opened?: string;
  /** Called in the turn of the dispatch, with the credential it rests on. */
  readonly onDispatch?: (credential: KnownKey) => void;
}

/** Sends errands to the router, each in the very turn in which its credential was found to hold. */
@Injectable()
export class RouterClient {
  private readonly router: Pool;

  constructor(
    routerUrl: string,
    private readonly tokens: ServiceTokens,
    private readonly admission: Admission,
  ) {
    this.router = new Pool(routerUrl, {
      connections: CONNECTIONS,
      connectTimeout: 1_000,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  async close(): Promise<void> {
    await this.router.close();
  }

  /** @throws Rejected when the credential does not hold any more; what the connection throws */
  async send(errand: Errand): Promise<Answer> {
    const { requestId, admitted, model, workload, path, headers, body, deadline, signal, opened, onDispatch } = errand;
    for (const until = systemClock.monotonic() + ROUTER_BACK_MS; ;) {
      const authorization = await this.tokens.headerFor('router');
      let credential = this.admission.holds(admitted);
      while (!credential) {
        await this.admission.prove(admitted);
        credential = this.admission.holds(admitted);
      }
      signal.throwIfAborted();
      onDispatch?.(credential);
      try {
        const answer = new Answer(signal);
        this.router.dispatch(
          {
            method: 'POST',
            path,
            headers: {
              ...headers,
              authorization,
              'content-type': Buffer.isBuffer(body) ? 'application/json' : body.contentType,
              'x-request-id': requestId,
              [ROUTER_HEADERS.model]: encodeURIComponent(model),
              [ROUTER_HEADERS.workload]: workload,
              [ROUTER_HEADERS.deadlineMs]: String(Math.max(1, Math.round(deadline - systemClock.monotonic()))),
              ...(opened === undefined ? undefined : { [ROUTER_HEADERS.opened]: inHeader(opened) }),
            },
            // One that could not be connected has taken nothing of it.
            body: Buffer.isBuffer(body) ? body : body.bytes(),
          },
          answer,
        );
        return await answer.head;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED' || systemClock.monotonic() > until) throw error;
        await sleep(100, undefined, { signal });
      }
    }
  }

  /** The router's own refusal, by its code. */
  refusal(upstream: Answer, bytes: Buffer): Rejected {
    if (refusesToken(upstream.statusCode, bytes)) return this.tokens.refusedBy('router');
    return routerRefusal(upstream, bytes);
  }
}

const BEYOND_LATIN1 = /[^\0-\u00FF]/g;

/** JSON as a header may hold it: the same JSON, whatever stands in names of models. */
const inHeader = (json: string): string =>
  json.replace(BEYOND_LATIN1, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** What the way to a worker met, as a refusal: of the router, of the connection, of what cannot be read. */
export function asRejected(error: Error): Rejected {
  if (error instanceof Rejected) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (error instanceof SyntaxError)
    return new Rejected('worker_error', 'The worker sent what cannot be read.', { cause: error });
  if (code === 'ECONNREFUSED' || code === 'UND_ERR_CONNECT_TIMEOUT')
    return new Rejected('unavailable', undefined, { retryAfter: 1, cause: error });
  if (code.startsWith('UND_ERR') || code === 'ECONNRESET' || code === 'EPIPE')
    return new Rejected('worker_error', undefined, { cause: error });
  return new Rejected('internal_error', undefined, { cause: error });
}

function routerRefusal(upstream: Answer, bytes: Buffer): Rejected {
  const retryAfter = Number(header(upstream, 'retry-after'));
  const details = Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfter } : {};
  try {
    const { error } = JSON.parse(bytes.toString('utf8')) as { error: { code: ErrorCode } };
    // A fault between gateway and router is not the client's credential.
    if (error.code in ERRORS && ERRORS[error.code].status >= 429) return new Rejected(error.code, undefined, details);
  } catch {
    // not the router's dialect: below
  }
  // A router that is stopping says 503 in its framework's own words.
  return new Rejected(upstream.statusCode === 503 ? 'unavailable' : 'worker_error', undefined, details);
}

export function header(upstream: Answer, name: string): string | undefined {
  const value = upstream.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
