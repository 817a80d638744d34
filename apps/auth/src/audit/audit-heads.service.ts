import { createHash } from 'node:crypto';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Injectable } from '@nestjs/common';
import type { OnApplicationBootstrap, OnApplicationShutdown } from '@nestjs/common';
import { rfc3339, type Clock } from '@sluice/primitives/clock';
import { gauge, loggerFor } from '@sluice/service-kit';
import type { AuditStore } from './audit.store.js';

const DAY_MS = 24 * 60 * 60 * 1000;
const AGAIN_MS = 60_000;

/**
 * Appends the heads of all chains to a file outside the database, after every start and then daily. Whoever can rewrite
 * the database, triggers, hashes and all, can't rewrite these: a chain that was rewritten does not come by them any more.
 */
@Injectable()
export class AuditHeads implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly log = loggerFor('audit');
  private timer: NodeJS.Timeout | undefined;
  private exporting: Promise<void> | undefined;
  private exportedAt = Number.NaN;

  constructor(
    private readonly audit: AuditStore,
    private readonly clock: Clock,
    /** JSON lines; undefined = nowhere, and each start warns of it. */
    private readonly file: string | undefined,
  ) {
    gauge('auth_audit_heads_exported_timestamp_seconds', 'When the heads of the audit chains were last exported', () =>
      Math.round(this.exportedAt / 1000),
    );
  }

  onApplicationBootstrap(): void {
    if (this.file === undefined) this.log.warn('AUDIT_HEADS_FILE is not set: a rewritten audit could not be found out');
    else this.exportAndGoOn(this.file);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.exporting;
    clearTimeout(this.timer);
  }

  private exportAndGoOn(file: string): void {
    this.exporting = this.export(file).then(
      () => this.next(file, DAY_MS),
      (err: unknown) => {
        this.log.error({ err, file }, 'the heads of the audit chains could not be exported');
        this.next(file, AGAIN_MS);
      },
    );
  }

  private next(file: string, afterMs: number): void {
    this.timer = setTimeout(() => this.exportAndGoOn(file), afterMs);
    this.timer.unref();
  }

  /** Comes back when the lines are on the disk. The log has their digest: it often goes to yet another place. */
  private async export(file: string): Promise<void> {
    const at = rfc3339(this.clock.now());
    const digest = createHash('sha256');
    let chains = 0;
    await mkdir(dirname(file), { recursive: true });
    const handle = await open(file, 'a+', 0o600);
    try {
      await endLine(handle);
      for await (const page of this.audit.heads()) {
        const lines = page.map((head) => `${JSON.stringify({ at, ...head })}\n`).join('');
        await handle.appendFile(lines);
        digest.update(lines);
        chains += page.length;
      }
      await handle.appendFile(`${JSON.stringify({ at, chains })}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    this.exportedAt = Date.parse(at);
    this.log.info({ file, chains, sha256: digest.digest('hex') }, 'exported the heads of the audit chains');
  }
}

/** A process that was killed while it wrote has left half a line: the next one begins on its own. */
async function endLine(handle: FileHandle): Promise<void> {
  const { size } = await handle.stat();
  if (size === 0) return;
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, size - 1);
  if (buffer.toString() !== '\n') await handle.appendFile('\n');
}
