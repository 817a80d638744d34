// Run by docker-cleaner. Reads lines "container <name>" and "network <name>" until its input ends, then removes them all.
import { createInterface } from 'node:readline';

const listed: { kind: string; name: string }[] = [];
for await (const line of createInterface({ input: process.stdin })) {
  const [kind = '', name = ''] = line.split(' ');
  listed.push({ kind, name });
}

// Loaded only now: until then this process only waits.
const { getContainerRuntimeClient } = await import('testcontainers');
const { dockerode } = (await getContainerRuntimeClient()).container;
setTimeout(() => process.exit(1), 60_000).unref();

// 404: it is gone; 409: it is being removed.
const unlessGone = (error: Error & { statusCode?: number }): void => {
  if (error.statusCode !== 404 && error.statusCode !== 409) console.error(`left behind: ${error.message}`);
};
const named = (kind: string): string[] => listed.filter((entry) => entry.kind === kind).map(({ name }) => name);

await Promise.all(
  named('container').map((name) => dockerode.getContainer(name).remove({ force: true, v: true }).catch(unlessGone)),
);
await Promise.all(named('network').map((name) => dockerode.getNetwork(name).remove().catch(unlessGone)));
