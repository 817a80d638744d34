import { existsSync, readFileSync, statSync } from 'node:fs';

/** What `fsync-trace.mjs` writes of one gateway: ids of requests in the order in which their ENDs came to be on the disk. */
export class Synced {
  readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  /** How far the trace is now; taken when an answer has ended. */
  now(): number {
    return existsSync(this.file) ? statSync(this.file).size : 0;
  }

  /** Where in the trace each request stands. */
  read(): Map<string, number> {
    const places = new Map<string, number>();
    let at = 0;
    for (const id of this.now() === 0 ? [] : readFileSync(this.file, 'latin1').split('\n')) {
      at += id.length + 1;
      if (!places.has(id)) places.set(id, at);
    }
    return places;
  }
}
