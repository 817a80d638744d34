import { describe, expect, it } from '@jest/globals';
import { fromEnvironment, toEnvironment } from './from-environment.js';

const env = {
  SLUICE_POSTGRES_URL: 'postgres://admin:p%40ss@db.example:5433/postgres',
  SLUICE_NATS_URL: 'nats://me:secret@bus.example',
  SLUICE_NATS_MONITOR_URL: 'http://bus.example:8222',
};

describe('servers from the environment', () => {
  it('are those that are both needed and named, with their parts decoded', () => {
    const servers = fromEnvironment(['postgres', 'redis'], env);
    expect(Object.keys(servers)).toEqual(['postgres']);
    expect(servers.postgres).toMatchObject({ host: 'db.example', port: 5433, user: 'admin', password: 'p@ss' });
  });

  it('survive the way into a child process', () => {
    expect(toEnvironment(fromEnvironment(['postgres', 'nats'], env))).toEqual(env);
  });

  it('are never stopped: they are somebody else’s', async () => {
    const { nats } = fromEnvironment(['nats'], env);
    await expect(nats!.stop()).rejects.toThrow(/SLUICE_NATS_URL/);
    await expect(nats!.kill()).rejects.toThrow(/SLUICE_NATS_URL/);
  });

  it('with a value that is no URL stop the start and say which', () => {
    expect(() => fromEnvironment(['redis'], { SLUICE_REDIS_URL: 'localhost' })).toThrow(
      /SLUICE_REDIS_URL is not a URL/,
    );
  });
});
