import { closeSync, fdatasyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { round } from './figures.ts';

const SYNCS = 200;
const RECORD_BYTES = 700;

/** What has to be known of a machine to compare its figures with another's; nothing that says whose it is. */
export const machineFacts = () => ({
  cores: cpus().length,
  processor: cpus()[0]?.model.trim(),
  memoryGB: Math.round(totalmem() / 1e9),
  platform: `${process.platform} ${process.arch}`,
  kernel: release(),
  node: process.version,
  loadBefore: loadavg().map((load) => round(load, 2)),
});

/** How long the disk below a folder takes to sync a usage record: no answer can be faster than this. */
export function syncLatency(folder: string): { readonly p50Ms: number; readonly p99Ms: number } {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'sync-latency');
  const descriptor = openSync(file, 'w');
  const took: number[] = [];
  for (let i = 0; i < SYNCS; i++) {
    writeSync(descriptor, 'x'.repeat(RECORD_BYTES));
    const from = performance.now();
    fdatasyncSync(descriptor);
    took.push(performance.now() - from);
  }
  closeSync(descriptor);
  rmSync(file);
  took.sort((a, b) => a - b);
  const at = (share: number) => round(took[Math.floor(share * (took.length - 1))]!, 3);
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
