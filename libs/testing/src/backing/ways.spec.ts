import { describe, expect, it } from '@jest/globals';
import { BackingUnavailable } from './backing.js';
import { firstThatWorks, order, type Way, type WayKind } from './ways.js';

const works = (what: string): Way => ({
  what,
  start: () => Promise.resolve({ servers: {}, stop: () => Promise.resolve() }),
});
const cannot = (why: string): Way => ({ why });
const breaks = (why: string): Way => ({ what: 'it', start: () => Promise.reject(new Error(why)) });

async function go(
  kinds: WayKind[],
  ways: Partial<Record<WayKind, Way>>,
): Promise<{ kind: string; reason: string; said: string[]; asked: string[] }> {
  const said: string[] = [];
  const asked: string[] = [];
  const look = (kind: WayKind): Promise<Way> => {
    asked.push(kind);
    return Promise.resolve(ways[kind] ?? cannot('not in this test'));
  };
  const { kind, reason } = await firstThatWorks(kinds, look, (line) => said.push(line));
  return { kind, reason, said, asked };
}

describe('which servers are taken', () => {
  it('tests take containers first and npm start private processes, each falling to the other', () => {
    expect(order(undefined, 'docker')).toEqual(['docker', 'local']);
    expect(order('', 'local')).toEqual(['local', 'docker']);
  });

  it('BACKING leaves one way and nothing to fall to', () => {
    expect(order('local', 'docker')).toEqual(['local']);
    expect(order('docker', 'local')).toEqual(['docker']);
    expect(() => order('podman', 'local')).toThrow(/docker or local/);
  });

  it('a way that works is gone without a look at the next', async () => {
    const { kind, asked } = await go(['docker', 'local'], { docker: works('images'), local: works('binaries') });
    expect({ kind, asked }).toEqual({ kind: 'docker', asked: ['docker'] });
  });

  it('a way that cannot be gone is passed over, and the reason is told at once and in the end', async () => {
    const { kind, reason, said } = await go(['docker', 'local'], {
      docker: cannot('no daemon'),
      local: works('binaries'),
    });
    expect(kind).toBe('local');
    expect(said).toEqual(['no containers: no daemon']);
    expect(reason).toBe('private processes: binaries; no containers: no daemon');
  });

  it('a way that fails at the start is passed over like one that cannot be gone', async () => {
    const { kind, said } = await go(['docker', 'local'], { docker: breaks('no space'), local: works('binaries') });
    expect({ kind, said }).toEqual({ kind: 'local', said: ['no containers: no space'] });
  });

  it('when nothing works, every reason is told, and what would help', async () => {
    const failure = go(['docker', 'local'], { docker: cannot('no daemon'), local: cannot('no redis') });
    await expect(failure).rejects.toThrow(BackingUnavailable);
    await expect(failure).rejects.toThrow(/no daemon[\s\S]*no redis[\s\S]*SLUICE_REDIS_URL/);
  });
});
