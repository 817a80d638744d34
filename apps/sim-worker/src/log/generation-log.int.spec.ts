import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GenerationLog, type GenerationRecord } from './generation-log.service.js';

const record = (requestId: string): GenerationRecord => ({
  requestId,
  startedAt: '2026-01-01T00:00:00.000Z',
  time: '2026-01-01T00:00:01.000Z',
  model: 'm',
  endpoint: '/v1/chat/completions',
  promptTokens: 3,
  cachedTokens: 0,
  completionTokens: 2,
  outcome: 'finished',
  stream: false,
});

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'generation-log-'));
  path = join(folder, 'log.ndjson');
});
afterEach(() => rmSync(folder, { recursive: true }));

const ids = () =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      try {
        return (JSON.parse(line) as GenerationRecord).requestId;
      } catch {
        return 'broken';
      }
    });

describe('the log of what was generated', () => {
  it('has a line in the file when write returns, so that a kill takes none', () => {
    const log = new GenerationLog(path);
    log.write(record('a.1'));
    // Read through another descriptor, while the writer is still open and was told nothing.
    expect(ids()).toEqual(['a.1']);
    log.write(record('b.1'));
    expect(ids()).toEqual(['a.1', 'b.1']);
    log.close();
  });

  it('goes on behind what a former process wrote', () => {
    new GenerationLog(path).write(record('a.1'));
    new GenerationLog(path).write(record('b.1'));
    expect(ids()).toEqual(['a.1', 'b.1']);
  });

  it('loses nothing behind a line that a crash cut short', () => {
    appendFileSync(path, '{"requestId":"half');
    new GenerationLog(path).write(record('b.1'));
    expect(ids()).toEqual(['broken', 'b.1']);
  });

  it('throws where it cannot write: the answer must not go out unlogged', () => {
    const log = new GenerationLog(path);
    log.close();
    expect(() => log.write(record('a.1'))).toThrow();
  });
});
