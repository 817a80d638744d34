// A Docker daemon that answers and is of no use: the start must not wait for it.
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { startBacking } from './start-backing.js';
import { stateDir } from './workspace.js';

const folder = join(stateDir, 'test', `daemon-${process.pid}`);
const socket = join(folder, 'docker.sock');
const LONG = 120_000;

/** As much of the engine's API as it takes to be taken for one: it has no image, and `registry` answers for its registry. */
function fakeDaemon(registry: (response: ServerResponse) => void): Server {
  return createServer((request: IncomingMessage, response: ServerResponse) => {
    const json = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    const path = request.url ?? '';
    // Asked for where this process itself is in a container.
    if (path.endsWith('/networks/bridge')) json(200, { IPAM: { Config: [{ Gateway: '127.0.0.1' }] } });
    else if (path.endsWith('/info'))
      json(200, {
        ServerVersion: '99.0',
        OperatingSystem: 'none',
        OSType: 'linux',
        Architecture: 'none',
        NCPU: 1,
        MemTotal: 1,
      });
    else if (/\/distribution\//.test(path)) registry(response);
    else if (/\/images\/.*\/json$/.test(path)) json(404, { message: 'No such image' });
    else json(500, { message: `not expected: ${path}` });
  });
}

describe('a Docker daemon that answers but cannot have the images', () => {
  let daemon: Server;
  const before = process.env['DOCKER_HOST'];

  const listen = async (registry: (response: ServerResponse) => void): Promise<void> => {
    daemon = fakeDaemon(registry);
    await new Promise<void>((listening) => daemon.listen(socket, listening));
  };
  beforeEach(() => {
    mkdirSync(folder, { recursive: true });
    process.env['DOCKER_HOST'] = `unix://${socket}`;
  });
  afterEach(async () => {
    if (before === undefined) delete process.env['DOCKER_HOST'];
    else process.env['DOCKER_HOST'] = before;
    daemon.closeAllConnections();
    await new Promise((closed) => daemon.close(closed));
    rmSync(folder, { recursive: true, force: true });
  });

  const start = async (): Promise<{ kind: string; said: string[] }> => {
    const said: string[] = [];
    const env = { PATH: process.env['PATH'] };
    const backing = await startBacking({
      dir: join(folder, 'backing'),
      need: ['redis'],
      env,
      onProgress: (line) => said.push(line),
    });
    await backing.stop();
    return { kind: backing.kind, said };
  };

  it(
    'is passed over, whether its registry refuses or is silent, and it says so',
    async () => {
      await listen((response) =>
        response.writeHead(403, { 'content-type': 'application/json' }).end('{"message":"no access"}'),
      );
      const refused = await start();
      expect(refused.kind).toBe('local');
      expect(refused.said.join()).toMatch(
        /the Docker daemon answers, but redis:7 is not there and cannot be pulled \(.*no access/,
      );

      daemon.removeAllListeners('request');
      daemon.on('request', (request: IncomingMessage, response: ServerResponse) => {
        if (request.url?.includes('/distribution/')) return;
        response.writeHead(404, { 'content-type': 'application/json' }).end('{"message":"No such image"}');
      });
      const started = performance.now();
      const silent = await start();
      expect(silent.kind).toBe('local');
      expect(silent.said.join()).toMatch(/redis:7 is not there and cannot be pulled \(no answer in 4 s\)/);
      // Far from the time that pulling an image may take.
      expect(performance.now() - started).toBeLessThan(90_000);
    },
    LONG,
  );

  it('is an error with BACKING=docker, which allows nothing else', async () => {
    await listen((response) =>
      response.writeHead(403, { 'content-type': 'application/json' }).end('{"message":"no access"}'),
    );
    const failure = startBacking({ dir: join(folder, 'backing'), need: ['redis'], env: { BACKING: 'docker' } });
    await expect(failure).rejects.toThrow(/cannot be pulled/);
  });
});
