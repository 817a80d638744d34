import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** What the operating system says of one process and all below it. */
export interface Usage {
  /** User and system time of all threads, and of children that have ended; milliseconds. */
  readonly cpuMs: number;
  /** Resident memory; bytes. Pages that several processes share count for each. */
  readonly rss: number;
}

interface Row extends Usage {
  readonly parent: number;
}

const constant = (name: string): number => Number(execFileSync('getconf', [name], { encoding: 'utf8' }));
const linux = process.platform === 'linux';
const TICK_MS = linux ? 1000 / constant('CLK_TCK') : 10;
const PAGE = linux ? constant('PAGESIZE') : 1;

/** A moment of all processes of the machine. */
export class Processes {
  private readonly rows: ReadonlyMap<number, Row>;
  private readonly children = new Map<number, number[]>();

  /** Milliseconds that the machine worked for others than this process and all below it. */
  readonly othersMs: number | undefined;

  constructor() {
    const busy = machineBusyMs();
    this.rows = linux ? fromProc() : fromPs();
    for (const [pid, { parent }] of this.rows) {
      const siblings = this.children.get(parent);
      if (siblings) siblings.push(pid);
      else this.children.set(parent, [pid]);
    }
    this.othersMs = busy === undefined ? undefined : busy - this.usage(process.pid).cpuMs;
  }

  /** Nothing for a process that is not there. */
  usage(pid: number): Usage {
    const own = this.rows.get(pid) ?? { cpuMs: 0, rss: 0 };
    return (this.children.get(pid) ?? [])
      .map((child) => this.usage(child))
      .reduce((sum, { cpuMs, rss }) => ({ cpuMs: sum.cpuMs + cpuMs, rss: sum.rss + rss }), {
        cpuMs: own.cpuMs,
        rss: own.rss,
      });
  }
}

/** Milliseconds that all cores together have been at work; undefined where the system does not tell. */
function machineBusyMs(): number | undefined {
  if (!linux) return undefined;
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split(/\s+/).slice(1).map(Number);
  return (user! + nice! + system! + irq! + softirq!) * TICK_MS;
}

/** `/proc/<pid>/stat`, proc(5): the name may hold spaces and brackets, so the fields are counted from its end. */
function fromProc(): Map<number, Row> {
  const rows = new Map<number, Row>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    let stat: string;
    try {
      stat = readFileSync(`/proc/${name}/stat`, 'utf8');
    } catch {
      continue; // it has just ended
    }
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const field = (number: number): number => Number(fields[number - 3]);
    const ticks = field(14) + field(15) + field(16) + field(17);
    rows.set(Number(name), { parent: field(4), cpuMs: ticks * TICK_MS, rss: field(24) * PAGE });
  }
  return rows;
}

/** macOS tells hundredths of a second as `minutes:seconds`, and leaves out children that have ended. */
function fromPs(): Map<number, Row> {
  const text = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,rss=,time='], { encoding: 'utf8', maxBuffer: 2 ** 24 });
  const rows = new Map<number, Row>();
  for (const line of text.split('\n')) {
    const [pid, parent, kilobytes, time = '0'] = line.trim().split(/\s+/);
    const seconds = time.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
    rows.set(Number(pid), { parent: Number(parent), cpuMs: seconds * 1000, rss: Number(kilobytes) * 1024 });
  }
  return rows;
}
