import { Controller, Get, Injectable, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { register } from 'prom-client';

const CHECK_TIMEOUT_MS = 1_000;

/** What a service needs before it takes work; each part adds its own check. */
@Injectable()
export class HealthRegistry {
  private readonly checks = new Map<string, () => Promise<void> | void>();
  private draining = false;

  /** @param check resolves when the part is ready, throws a reason (no secrets) when it is not */
  ready(name: string, check: () => Promise<void> | void): void {
    this.checks.set(name, check);
  }

  drain(): void {
    this.draining = true;
  }

  async state(): Promise<{ ready: boolean; parts: Record<string, string> }> {
    const parts: Record<string, string> = this.draining ? { shutdown: 'draining' } : {};
    await Promise.all(
      Array.from(this.checks, async ([name, check]) => {
        parts[name] = await within(CHECK_TIMEOUT_MS, check).then(
          () => 'ok',
          (error: unknown) => (error instanceof Error ? error.message : 'failed'),
        );
      }),
    );
    return { ready: Object.values(parts).every((state) => state === 'ok'), parts };
  }
}

async function within(milliseconds: number, check: () => Promise<void> | void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${milliseconds} ms`)), milliseconds);
  });
  try {
    await Promise.race([Promise.resolve().then(check), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

@Controller()
export class HealthController {
  constructor(private readonly health: HealthRegistry) {}

  /** The process turns its event loop: nothing else, so that a lost database does not restart every replica. */
  @Get('livez')
  live() {
    return { status: 'ok' };
  }

  @Get('readyz')
  async ready(@Res() reply: FastifyReply) {
    const { ready, parts } = await this.health.state();
    return reply.status(ready ? 200 : 503).send({ status: ready ? 'ok' : 'not ready', parts });
  }

  @Get('metrics')
  async metrics(@Res() reply: FastifyReply) {
    return reply.header('content-type', register.contentType).send(await register.metrics());
  }
}
