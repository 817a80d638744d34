import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';

// Below the range from which Linux and macOS take the source ports of outgoing connections: a server that is stopped for a
// while and comes back finds its port free, and a client that retries meanwhile cannot connect to itself.
const LOWEST = 20_000;
const HIGHEST = 32_000;
// Between the choice of a port and its use by a server lie seconds. Two processes that choose at the same time, the workers
// of one test run above all, choose from different ports as long as their numbers differ by less than this.
const SHARES = 64;
const share = process.pid % SHARES;
/** What this process was given: a server that is about to listen does not yet. */
const given = new Set<number>();

/** `count` different ports that are free on 127.0.0.1 now. All sockets are open before the first closes. */
export async function freePorts(count: number): Promise<number[]> {
  const held: { port: number; socket: Server }[] = [];
  try {
    for (let tries = 0; held.length < count && tries < count * 200; tries += 1) {
      const port = LOWEST + randomInt(Math.floor((HIGHEST - LOWEST) / SHARES)) * SHARES + share;
      if (given.has(port)) continue;
      const socket = await tryToListen(port);
      if (!socket) continue;
      given.add(port);
      held.push({ port, socket });
    }
    if (held.length < count) throw new Error(`no ${count} free ports between ${LOWEST} and ${HIGHEST} on 127.0.0.1`);
    return held.map(({ port }) => port);
  } finally {
    await Promise.all(held.map(({ socket }) => new Promise((closed) => socket.close(closed))));
  }
}

const tryToListen = (port: number): Promise<Server | undefined> =>
  new Promise((resolve) => {
    const socket = createServer();
    socket.once('error', () => resolve(undefined));
    socket.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(socket));
  });
