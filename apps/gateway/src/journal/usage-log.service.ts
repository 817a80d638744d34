import { appendFile, mkdir, open, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown, OnModuleInit } from '@nestjs/common';
import { settledResponseSchema, USAGE_RANK, type SettledResponse } from '@sluice/contracts/gateway';
import { recordOfLost } from '@sluice/contracts/lost-request';
import { rfc3339, systemClock } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import { gauge, HealthRegistry, loggerFor, type ServiceClient } from '@sluice/service-kit';
import { emptyState, endLine, readLine } from './entry.js';
import { Horizons } from './horizons.service.js';
import { Journal } from './journal.service.js';
import { Replays } from './replays.service.js';
import {
  adoptDeadFolders,
  claimFolder,
  forgetFolder,
  forgetSegment,
  JournalReader,
  segmentName,
  segmentNumbers,
} from './segments.service.js';
import { UsagePublisher, type PublishBatch } from './usage-publisher.service.js';

const SETTLED_POLL_MS = 2_000;

export interface UsageLogOptions {
  readonly root: string;
  readonly boot: string;
  readonly segmentBytes: number;
  /** Of what is not settled yet; beyond it nothing is admitted. */
  readonly maxBytes: number;
  readonly publish: PublishBatch;
  /** Whoever must have settled a record before its segment may go. */
  readonly settlers: readonly ServiceClient[];
  /** The one that closes windows of usage. */
  readonly metering: ServiceClient;
}

/**
 * Journal first, publish second, forget at the watermark: this boot's journal, its publisher, and the journals that
 * dead boots of this gateway left behind, finished under their old ids.
 */
@Injectable()
export class UsageLog implements OnModuleInit, OnApplicationShutdown {
  private readonly log = loggerFor('usage-log');
  readonly journal: Journal;
  private publisher!: UsagePublisher;
  private folder!: string;
  private stopped = false;
  private unfinished = 0;
  private readonly publishers: UsagePublisher[] = [];
  private readonly horizons: Horizons;

  constructor(
    private readonly options: UsageLogOptions,
    health: HealthRegistry,
  ) {
    this.journal = new Journal(join(options.root, options.boot), options.segmentBytes, options.maxBytes);
    this.horizons = new Horizons(options.publish, options.metering);
    health.ready('journal', () => this.journal.check());
    gauge(
      'gateway_dead_journals',
      'Journals of dead boots that metering and billing have not settled yet',
      () => this.unfinished,
    );
    gauge('gateway_requests_open', 'Requests with an OPEN and no END in the journal', () => this.journal.opened);
  }

  async onModuleInit(): Promise<void> {
    const { root, boot, publish } = this.options;
    await mkdir(root, { recursive: true, mode: 0o700 });
    this.folder = await claimFolder(root, boot);
    await this.journal.start();
    await this.lookAtDisk();
    const { journal } = this;
    this.publisher = new UsagePublisher(boot, new JournalReader(this.folder), publish, 0, () => journal.syncedBelow);
    this.publishers.push(this.publisher);
    journal.whenEnded(() => this.publisher.notify());
    this.inBackground(this.begin(journal.holdBack()), 'horizons');
    this.inBackground(this.publisher.run(), 'publisher');
    this.inBackground(this.forgetSettled(), 'forget');
    for (const dead of await adoptDeadFolders(root, boot)) this.inBackground(this.finish(dead), 'successor');
  }

  /** What is not published when the process ends is published by the next one. */
  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    this.horizons.stop();
    this.journal.holdBack();
    await this.journal.close();
    await this.horizons.end(this.options.boot, this.journal);
    for (const publisher of this.publishers) publisher.stop();
  }

  /** Nothing is admitted before it is known that this process is there. */
  private async begin(open: () => void): Promise<void> {
    await this.horizons.begin(this.options.boot, this.journal);
    if (this.stopped) return;
    open();
    await this.horizons.run(this.options.boot, this.journal);
  }

  private async finish({ boot, folder }: { boot: string; folder: string }): Promise<void> {
    this.unfinished++;
    const { lost, below, held } = await closeDeadJournal(folder);
    this.log.info({ boot, lost, records: below }, 'finishing the journal of a dead gateway');
    const buried = this.horizons.buried(boot, below);
    const before = await this.settled(boot, { published: 0, held });
    const publisher = new UsagePublisher(boot, new JournalReader(folder), this.options.publish, before.below);
    this.publishers.push(publisher);
    await publisher.run({ untilEnd: true });
    const replays = this.replaysOf(boot, folder);
    while (!this.stopped) {
      const settled = await this.settled(boot, { published: below, held });
      if (settled.below >= below) break;
      await this.replay(replays, settled.missing);
      await sleep(SETTLED_POLL_MS, undefined, { ref: false });
    }
    await buried;
    if (this.stopped) return;
    await forgetFolder(folder);
    this.unfinished--;
  }

  private async forgetSettled(): Promise<void> {
    const { journal, folder, publisher } = this;
    const replays = this.replaysOf(this.options.boot, folder);
    for (;;) {
      await sleep(SETTLED_POLL_MS, undefined, { ref: false });
      // After the end of this service its folder is nobody's business here.
      if (this.stopped) return;
      await this.lookAtDisk();
      const told = { published: publisher.publishedBelow, held: journal.heldFrom };
      const { below, missing } = await this.settled(this.options.boot, told);
      const first = missing[0] && journal.segmentOf(Math.min(...missing.map(([from]) => from)));
      await this.replay(replays, missing, first);
      // The reader must be past them too: it opens segments by number.
      for (const number of journal.takeForgettable(Math.min(below, publisher.publishedBelow))) {
        await forgetSegment(folder, number);
      }
    }
  }

  private replaysOf(boot: string, folder: string): Replays {
    return new Replays(boot, folder, this.options.publish, systemClock, systemId);
  }

  private async replay(replays: Replays, missing: SettledResponse['missing'], first?: number): Promise<void> {
    if (this.stopped) return;
    try {
      await replays.again(missing, first);
    } catch (err) {
      this.log.debug({ err }, 'a replay waits');
    }
  }

  private async lookAtDisk(): Promise<void> {
    const { bavail, bsize } = await statfs(this.folder);
    this.journal.room(bavail * bsize);
  }

  /**
   * Records below `below` are settled by everybody, 0 while that can't be known; `missing` to some of them.
   * @param told what this gateway has of them: stored in the stream, and still in the journal
   */
  private async settled(boot: string, { published, held }: { published: number; held: number }) {
    const path = `/internal/usage/settled/${boot}?published=${published}&held=${held}`;
    const answers = await Promise.all(
      this.options.settlers.map((settler) =>
        settler
          .ask({ method: 'GET', path }, settledResponseSchema)
          .catch((): SettledResponse => ({ below: 0, missing: [] })),
      ),
    );
    return {
      below: Math.min(...answers.map(({ below }) => below)),
      missing: answers.flatMap(({ missing }) => missing),
    };
  }

  private inBackground(work: Promise<void>, part: string): void {
    work.catch((err: unknown) => {
      // Nothing is lost by stopping: the journal stays, and a restart goes on from it.
      this.log.fatal({ err, part }, 'the usage log stopped');
      process.exit(1);
    });
  }
}

/**
 * Gives every request that a dead gateway left open its END, from its last count, in a segment of its own. All of it is on
 * the disk afterwards: what the dead one wrote last may be in the machine's cache only.
 */
export async function closeDeadJournal(folder: string): Promise<{ lost: number; below: number; held: number }> {
  const state = emptyState();
  const reader = new JournalReader(folder);
  for (let lines = await reader.read(); lines.length > 0; lines = await reader.read()) {
    for (const line of lines) readLine(state, line);
  }
  await reader.close();
  const lost = state.open.size;
  const held = state.heldFrom ?? state.nextSeq;
  const numbers = await segmentNumbers(folder);
  if (lost > 0) {
    const number = (numbers.at(-1) ?? -1) + 1;
    const endedAt = rfc3339(systemClock.now());
    const text = Array.from(state.open.values(), ({ request, counts }) =>
      endLine(
        recordOfLost(request, {
          counts,
          seq: state.nextSeq++,
          endedAt,
          worker: null,
          attempt: 1,
          uncounted: USAGE_RANK.inputOnly,
        }),
      ),
    ).join('');
    await appendFile(join(folder, segmentName(number)), text, { mode: 0o600 });
    numbers.push(number);
  }
  for (const number of numbers) {
    const file = await open(join(folder, segmentName(number)), 'r');
    await file.datasync();
    await file.close();
  }
  return { lost, below: state.nextSeq, held };
}
