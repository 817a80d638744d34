import type { Readable } from 'node:stream';
import type { ServiceName } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { refusesToken, type ServiceTokens } from '@sluice/service-kit';
import { Pool, type Dispatcher } from 'undici';

/** For a whole answer. */
const TIMEOUT_MS = 15_000;
/** For the head of an answer that is passed on as it comes, and for all of it. */
const STREAM_HEAD_MS = 40_000;
const STREAM_MS = 11 * 60_000;
const CONNECTIONS = 64;

export interface Order {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | null;
}

export interface Answer<Body = Buffer> {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Body;
}

/** The services that carry out what the management plane is asked for. */
export class Owners {
  private readonly pools: ReadonlyMap<string, Pool>;

  constructor(
    urls: Readonly<Partial<Record<ServiceName, string>>>,
    private readonly tokens: ServiceTokens,
  ) {
    this.pools = new Map(
      Object.entries(urls).map(([service, url]) => [
        service,
        new Pool(url, { connections: CONNECTIONS, connectTimeout: 1_000, headersTimeout: TIMEOUT_MS }),
      ]),
    );
  }

  /** @throws Rejected `timeout`, `unavailable` */
  async ask(service: ServiceName, order: Order): Promise<Answer> {
    return this.believed(
      service,
      await answered(service, async () => {
        const signal = AbortSignal.timeout(TIMEOUT_MS);
        return whole(await this.pools.get(service)!.request({ ...order, method: order.method, signal }));
      }),
    );
  }

  /**
   * An answer of any length: what is not a success is read whole, a success is a stream, which fails when the owner breaks
   * it off. Unread, it keeps the owner waiting.
   * @param gone the client does not wait any more
   * @throws Rejected `timeout`, `unavailable`
   */
  async stream(service: ServiceName, order: Order, gone: AbortSignal): Promise<Answer<Buffer | Readable>> {
    return this.believed(
      service,
      await answered(service, async (): Promise<Answer<Buffer | Readable>> => {
        const signal = AbortSignal.any([gone, AbortSignal.timeout(STREAM_MS)]);
        const response = await this.pools
          .get(service)!
          .request({ ...order, method: order.method, signal, headersTimeout: STREAM_HEAD_MS });
        if (response.statusCode !== 200) return whole(response);
        return { status: 200, headers: texts(response), body: response.body };
      }),
    );
  }

  /** A refusal may be of the gateway's token, not of the client's credential. */
  private believed<A extends Answer<Buffer | Readable>>(service: ServiceName, answer: A): A {
    if (Buffer.isBuffer(answer.body) && refusesToken(answer.status, answer.body)) throw this.tokens.refusedBy(service);
    return answer;
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.pools.values(), (pool) => pool.close()));
  }
}

const texts = ({ headers }: Dispatcher.ResponseData) => headers as Record<string, string | undefined>;

async function whole(response: Dispatcher.ResponseData): Promise<Answer> {
  const body = Buffer.from(await response.body.arrayBuffer());
  return { status: response.statusCode, headers: texts(response), body };
}

async function answered<T>(service: ServiceName, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    const { name } = cause as Error;
    if (name === 'TimeoutError' || name === 'HeadersTimeoutError')
      throw new Rejected('timeout', `${service} did not answer in time.`, { cause });
    throw new Rejected('unavailable', `${service} does not answer.`, { retryAfter: 1, cause });
  }
}
