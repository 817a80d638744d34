import { SingleBar } from 'cli-progress';

export interface Progress {
  set(done: number, note?: string): void;
  end(): void;
}

const PLAIN_EVERY_MS = 2_000;

/** A bar on a terminal; elsewhere a plain line every two seconds and one at the end. */
export function progressOf(name: string, total: number): Progress {
  if (process.stdout.isTTY) {
    const bar = new SingleBar({
      format: `${name.padEnd(9)} {bar} {percentage}% {value}/{total} {note}`,
      stream: process.stdout,
      hideCursor: true,
    });
    bar.start(total, 0, { note: '' });
    return { set: (done, note = '') => bar.update(done, { note }), end: () => bar.stop() };
  }
  let last = '';
  let printedAt = 0;
  let printed = '';
  const print = () => {
    if (last === printed) return;
    console.log(last);
    printed = last;
    printedAt = performance.now();
  };
  return {
    set(done, note = '') {
      last = `${name}: ${done}/${total}${note === '' ? '' : ` ${note}`}`;
      if (performance.now() - printedAt >= PLAIN_EVERY_MS) print();
    },
    end: print,
  };
}
