import { openSync } from 'node:fs';
import { appendFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  horizonSchema,
  usageBatchSchema,
  type Horizon,
  type UsageBatch,
  type UsageRecord,
} from '@sluice/contracts/gateway';
import { anOpenedRequest, aUsageRecord } from '@sluice/contracts/usage-record.fixture';
import { rfc3339 } from '@sluice/primitives/clock';
import { systemId } from '@sluice/primitives/id';
import type { ServiceClient } from '@sluice/service-kit';
import { manualClock } from '@sluice/testing';
import { Horizons } from './horizons.service.js';
import { Journal } from './journal.service.js';
import { Replays } from './replays.service.js';
import { adoptDeadFolders, claimFolder, forgetSegment, JournalReader, segmentName } from './segments.service.js';
import { closeDeadJournal } from './usage-log.service.js';
import { UsagePublisher } from './usage-publisher.service.js';

const opened = (requestId: string) => anOpenedRequest({ requestId });
const ended = (requestId: string): Omit<UsageRecord, 'seq'> => aUsageRecord({ requestId });

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'journal-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const start = async (boot: string, segmentBytes = 1 << 20, maxBytes?: number) => {
  const folder = await claimFolder(root, boot);
  const journal = new Journal(folder, segmentBytes, maxBytes);
  await journal.start();
  return { folder, journal };
};

const until = async (met: () => boolean): Promise<void> => {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 5));
};

/** Publishes all that is in a folder, as a stream that keeps what it takes. */
async function publishAll(
  boot: string,
  folder: string,
  take: (batch: UsageBatch, id: string) => void,
  startAt = 0,
): Promise<void> {
  const publish = async (_subject: string, payload: string, id: string) =>
    take(usageBatchSchema.parse(JSON.parse(payload)), id);
  await new UsagePublisher(boot, new JournalReader(folder), publish, startAt).run({ untilEnd: true });
}

describe('the usage journal', () => {
  it('publishes every END once, in order and without gaps, over as many segments as it takes', async () => {
    const { folder, journal } = await start('b1', 4_096);
    const ids = Array.from({ length: 200 }, (_, i) => `r${i}`);
    await Promise.all(
      ids.map(async (id) => {
        journal.open(id, JSON.stringify(opened(id)));
        journal.count(id, { input: 10, cachedInput: 0, output: 1 });
        await journal.end(ended(id));
      }),
    );
    await journal.close();
    expect((await readdir(folder)).filter((name) => name.endsWith('.journal')).length).toBeGreaterThan(2);
    const records: UsageRecord[] = [];
    await publishAll('b1', folder, (batch) => records.push(...batch.records));
    expect(records.map(({ seq }) => seq)).toEqual(ids.map((_, i) => i));
    expect(new Set(records.map(({ requestId }) => requestId)).size).toBe(ids.length);
  });

  it('sends a batch that may have arrived again under the same id with the same content', async () => {
    const { folder, journal } = await start('b1');
    for (const id of ['a', 'b', 'c']) await journal.end(ended(id));
    await journal.close();
    const sent: string[] = [];
    let failures = 2;
    const publish = async (_subject: string, payload: string, id: string) => {
      sent.push(`${id} ${payload}`);
      if (failures-- > 0) throw new Error('no PubAck');
    };
    await new UsagePublisher('b1', new JournalReader(folder), publish).run({ untilEnd: true });
    expect(sent.length).toBeGreaterThanOrEqual(3);
    const byId = Map.groupBy(sent, (line) => line.split(' ')[0]);
    for (const copies of byId.values()) expect(new Set(copies).size).toBe(1);
  });

  it('gives a request that a dead gateway left open its END from the last count, under the old boot id', async () => {
    const { folder, journal } = await start('dead');
    await journal.end(ended('whole'));
    journal.open('cut', JSON.stringify(opened('cut')));
    journal.count('cut', { input: 10, cachedInput: 4, output: 7 });
    journal.open('guessed', JSON.stringify(opened('guessed')));
    journal.count('guessed', { input: 9, cachedInput: 0, output: 2, estimated: true });
    journal.open('heard', JSON.stringify(opened('heard')));
    journal.count('heard', { input: 0, cachedInput: 0, output: 0, estimated: true, audio: { ms: 2500 } });
    journal.open('never-answered', JSON.stringify(opened('never-answered')));
    await journal.close();
    // What a crash in mid-write leaves.
    const name = (await readdir(folder)).find((file) => file.endsWith('.journal'))!;
    await appendFile(join(folder, name), 'E 3 torn {"seq":3,"reque');

    expect(await closeDeadJournal(folder)).toEqual({ lost: 4, below: 5, held: 0 });
    expect(await closeDeadJournal(folder)).toEqual({ lost: 0, below: 5, held: 0 });
    const records: UsageRecord[] = [];
    await publishAll('dead', folder, (batch) => {
      expect(batch.boot).toBe('dead');
      records.push(...batch.records);
    });
    expect(
      records.map(({ requestId, seq, outcome, rank, estimated, outputTokens, audioMs }) => [
        [requestId, seq, outcome],
        [rank, estimated, outputTokens, ...(audioMs === undefined ? [] : [audioMs])],
      ]),
    ).toEqual([
      [
        ['whole', 0, 'ok'],
        [4, false, '30'],
      ],
      [
        ['cut', 1, 'aborted'],
        [3, false, '7'],
      ],
      [
        ['guessed', 2, 'aborted'],
        [2, true, '2'],
      ],
      [
        ['heard', 3, 'aborted'],
        [2, true, '0', '2500'],
      ],
      [
        ['never-answered', 4, 'aborted'],
        [1, false, '0'],
      ],
    ]);
  });

  it('leaves the journal of a living process alone and takes over that of a dead one, once', async () => {
    await start('alive');
    const { folder } = await start('dead');
    await appendFile(join(folder, 'owner.json'), 'x'); // unreadable: its owner is not known to live
    expect(await adoptDeadFolders(root, 'successor')).toEqual([{ boot: 'dead', folder: join(root, 'dead~successor') }]);
    expect(await adoptDeadFolders(root, 'successor')).toEqual([]);
    expect((await readdir(root)).sort()).toEqual(['alive', 'dead~successor']);
  });

  it('forgets only closed segments whose every END is settled and in which nothing is open', async () => {
    const { journal } = await start('b1', 2_048);
    journal.open('long', JSON.stringify(opened('long')));
    for (let i = 0; i < 20; i++) await journal.end(ended(`r${i}`));
    expect(journal.takeForgettable(1_000)).toEqual([]); // "long" is open in the first
    await journal.end(ended('long'));
    expect(journal.takeForgettable(0)).toEqual([]);
    const some = journal.takeForgettable(5);
    expect(some.length).toBeGreaterThan(0);
    const rest = journal.takeForgettable(1_000);
    expect(rest.at(0)).toBe(some.at(-1)! + 1);
    await journal.close();
  });

  it('gives a request that was left open a number of its own, also when the segments with those before are gone', async () => {
    const { folder, journal } = await start('b1', 400);
    for (let i = 0; i < 3; i++) await journal.end(ended(`r${i}`));
    journal.open('cut', JSON.stringify(opened('cut')));
    for (const number of journal.takeForgettable(3)) await forgetSegment(folder, number);
    await journal.close();
    expect(journal.heldFrom).toBe(3);
    expect(await closeDeadJournal(folder)).toEqual({ lost: 1, below: 4, held: 3 });
    const records: UsageRecord[] = [];
    await publishAll('b1', folder, (batch) => records.push(...batch.records), 3);
    expect(records.map(({ requestId, seq }) => [requestId, seq])).toEqual([['cut', 3]]);
  });

  it('holds the END for which its first remaining segment was begun, though the first line there speaks of the next', async () => {
    const { folder, journal } = await start('b1', 400);
    for (let i = 0; i < 3; i++) await journal.end(ended(`r${i}`));
    const gone = journal.takeForgettable(2);
    for (const number of gone) await forgetSegment(folder, number);
    await journal.close();
    const first = await readFile(join(folder, segmentName(gone.at(-1)! + 1)), 'utf8');
    expect(first.split('\n').map((line) => line.slice(0, 4))).toEqual(['S 3', 'E 2 ', '']);
    expect(await closeDeadJournal(folder)).toEqual({ lost: 0, below: 3, held: 2 });
  });

  it('publishes again what is missing and nothing else, under new names, and ever less often', async () => {
    const { folder, journal } = await start('b1', 2_048);
    for (let i = 0; i < 20; i++) await journal.end(ended(`r${i}`));
    const clock = manualClock();
    const sent: { id: string; seqs: number[] }[] = [];
    const publish = async (_subject: string, payload: string, id: string) =>
      void sent.push({ id, seqs: usageBatchSchema.parse(JSON.parse(payload)).records.map(({ seq }) => seq) });
    const replays = new Replays('b1', folder, publish, clock, systemId);
    const missing: [number, number][] = [
      [7, 9],
      [12, 13],
    ];
    const rounds = async (polls: number) => {
      sent.length = 0;
      for (let i = 0; i < polls; i++) {
        await replays.again(missing, journal.segmentOf(7));
        clock.advance(2_000);
      }
      return sent.flatMap(({ seqs }) => seqs);
    };
    expect(await rounds(1)).toEqual([7, 8, 12]);
    const first = sent.map(({ id }) => id);
    expect(await rounds(2)).toEqual([7, 8, 12]);
    expect(sent.filter(({ id }) => first.includes(id) || id === 'b1:7-8')).toEqual([]);
    // Ten minutes of asking for what does not help.
    expect((await rounds(300)).length / 3).toBeLessThan(20);
    await replays.again([]);
    expect(await rounds(1)).toEqual([7, 8, 12]);
    await journal.close();
  });

  it('goes on with what is missing behind a part of which nothing is kept', async () => {
    const { folder, journal } = await start('b1');
    for (let i = 0; i < 3; i++) await journal.end(ended(`r${i}`));
    const sent: string[] = [];
    const publish = async (_subject: string, payload: string) => void sent.push(payload);
    await new Replays('b1', folder, publish, manualClock(), systemId).again([
      [2, 3],
      [50, 60],
    ]);
    expect(sent.map((payload) => usageBatchSchema.parse(JSON.parse(payload)).records.length)).toEqual([1]);
    await journal.close();
  });

  it('stops admitting when the disk fails, and an answer whose END is not on the disk is not given', async () => {
    const { journal } = await start('b1');
    // Takes what is written, and cannot be synced.
    Object.assign(journal, { file: openSync('/dev/null', 'a') });
    await expect(journal.end(ended('a'))).rejects.toThrow('sync');
    expect(() => journal.open('b', JSON.stringify(opened('b')))).toThrow(
      expect.objectContaining({ code: 'unavailable' }),
    );
  });

  it('admits nothing for whose END there may be no room, neither of what it may take nor of the disk, until there is', async () => {
    const { journal } = await start('b1', 1 << 20, 20_000);
    for (const id of ['a', 'b', 'c', 'd']) journal.open(id, JSON.stringify(opened(id)));
    const full = () => journal.open('e', JSON.stringify(opened('e')));
    expect(full).toThrow(expect.objectContaining({ code: 'unavailable' }));
    for (const id of ['a', 'b', 'c', 'd']) await journal.end(ended(id));
    full();
    journal.room(64 * 1024 * 1024);
    expect(() => journal.check()).toThrow(expect.objectContaining({ code: 'unavailable' }));
    journal.room(65 * 1024 * 1024);
    journal.check();
    await journal.close();
  });

  it('publishes no END that may still be lost with the machine', async () => {
    const { folder, journal } = await start('b1');
    await journal.end(ended('synced'));
    const late = journal.end(ended('late'));
    const sent: string[] = [];
    const publish = async (_subject: string, payload: string) => {
      sent.push(...usageBatchSchema.parse(JSON.parse(payload)).records.map(({ requestId }) => requestId));
    };
    // In the file, and not on the disk.
    let below = journal.syncedBelow;
    const publisher = new UsagePublisher('b1', new JournalReader(folder), publish, 0, () => below);
    const running = publisher.run();
    await until(() => sent.length > 0);
    expect(sent).toEqual(['synced']);
    await late;
    below = journal.syncedBelow;
    publisher.notify();
    await until(() => sent.length > 1);
    expect(sent).toEqual(['synced', 'late']);
    publisher.stop();
    await running;
    await journal.close();
  });

  it('dates no END before a horizon that was told, whatever the clock does', async () => {
    const { folder, journal } = await start('b1');
    const at = Date.parse(ended('a').endedAt);
    await journal.end(ended('before'));
    expect(journal.mark(at + 5_000)).toEqual({ seq: 1, until: at + 5_000 });
    // The clock was set back by more than a minute since.
    await journal.end(ended('late'));
    expect(journal.mark(at - 60_000)).toEqual({ seq: 2, until: at + 5_000 });
    await journal.end({ ...ended('later'), endedAt: rfc3339(at + 7_000) });
    await journal.close();
    const times: number[] = [];
    await publishAll('b1', folder, ({ records }) => times.push(...records.map(({ endedAt }) => Date.parse(endedAt))));
    expect(times).toEqual([at, at + 5_000, at + 7_000]);
  });

  it('tells a horizon only when all that it speaks of is on the disk, and the last one when nothing can come', async () => {
    const { journal } = await start('b1');
    const told: (Horizon & { subject: string })[] = [];
    const publish = async (subject: string, payload: string) =>
      void told.push({ subject, ...horizonSchema.parse(JSON.parse(payload)) });
    const horizons = new Horizons(publish, {} as ServiceClient);
    await horizons.begin('b1', journal);
    expect(told).toMatchObject([{ subject: 'horizon.v1.begun.b1', seq: 0, final: false }]);
    const ending = journal.end(ended('a'));
    const running = horizons.run('b1', journal);
    // In the file, and not on the disk.
    expect(journal.syncedBelow).toBe(0);
    expect(told).toHaveLength(1);
    await ending;
    await until(() => told.length > 1);
    expect(told[1]).toMatchObject({ subject: 'horizon.v1.told.b1', seq: 1, final: false });
    journal.open('b', JSON.stringify(opened('b')));
    await horizons.end('b1', journal);
    expect(told.filter(({ final }) => final)).toEqual([]);
    await journal.end(ended('b'));
    await horizons.end('b1', journal);
    expect(told.at(-1)).toMatchObject({ seq: 2, final: true });
    horizons.stop();
    await running;
    await journal.close();
  });

  it('admits nothing before it is known that its process is there: by NATS, or else by metering itself', async () => {
    const { journal } = await start('b1');
    const open = journal.holdBack();
    expect(() => journal.open('a', JSON.stringify(opened('a')))).toThrow(
      expect.objectContaining({ code: 'unavailable' }),
    );
    const asked: unknown[] = [];
    let failures = 2;
    const metering = {
      tell: async (call: unknown) => {
        if (failures-- > 0) throw new Error('away');
        asked.push(call);
      },
    } as unknown as ServiceClient;
    const noNats = async () => {
      throw new Error('not connected');
    };
    await new Horizons(noNats, metering).begin('b1', journal);
    expect(asked).toEqual([
      expect.objectContaining({
        path: '/internal/usage/horizons',
        body: expect.objectContaining({ boot: 'b1', seq: 0 }),
      }),
    ]);
    open();
    journal.open('a', JSON.stringify(opened('a')));
    await journal.close();
  });

  it('writes no prompt, answer or secret: only what the record holds', async () => {
    const { folder, journal } = await start('b1');
    journal.open('a', JSON.stringify(opened('a')));
    await journal.end(ended('a'));
    await journal.close();
    const name = (await readdir(folder)).find((file) => file.endsWith('.journal'))!;
    const lines = (await readFile(join(folder, name), 'utf8')).trim().split('\n');
    expect(Object.keys(JSON.parse(lines[0]!.slice(2))).sort()).toEqual(Object.keys(opened('a')).sort());
  });
});
