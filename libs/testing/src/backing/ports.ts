import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';

// Below the range from which Linux and macOS take the source ports of outgoing connections: a server that is stopped for a
// while and comes back finds its port free, and a client that retries meanwhile cannot connect to itself.
const LOWEST = 20_000;
const HIGHEST = 32_000;

/** `count` different ports that are free on 127.0.0.1 now. All sockets are open before the first closes. */
export async function freePorts(count: number): Promise<number[]> {
  const held: { port: number; socket: Server }[] = [];
  try {
    for (let tries = 0; held.length < count && tries < count * 200; tries += 1) {
      const port = randomInt(LOWEST, HIGHEST);
      const socket = await tryToListen(port);
      if (socket) held.push({ port, socket });
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
