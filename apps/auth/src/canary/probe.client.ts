import { Agent, request } from 'undici';

/** What a gateway says of a key: 200, 401, or something that is neither a yes nor a no (or nothing). */
export type Verdict = 'accepted' | 'refused' | 'unknown';

/** Asks gateways as a client does: `GET /v1/key` with a secret. */
export class ProbeClient {
  private readonly agent: Agent;

  /** @param timeoutMs of one probe */
  constructor(private readonly timeoutMs: number) {
    this.agent = new Agent({ connect: { timeout: timeoutMs }, connections: 4, keepAliveTimeout: 30_000 });
  }

  async ask(url: string, secret: string, signal: AbortSignal): Promise<Verdict> {
    try {
      const { statusCode, body } = await request(`${url}/v1/key`, {
        headers: { authorization: `Bearer ${secret}` },
        dispatcher: this.agent,
        signal: AbortSignal.any([signal, AbortSignal.timeout(this.timeoutMs)]),
      });
      await body.dump();
      return statusCode === 200 ? 'accepted' : statusCode === 401 ? 'refused' : 'unknown';
    } catch {
      return 'unknown';
    }
  }

  async close(): Promise<void> {
    await this.agent.destroy();
  }
}
