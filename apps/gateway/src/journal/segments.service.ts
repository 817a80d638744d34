import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

const OWNER_FILE = 'owner.json';
/** A folder without an owner file is somebody's who is just starting, for this long. */
const STARTING_MS = 10_000;

export const segmentName = (number: number): string => `${String(number).padStart(8, '0')}.journal`;

/** Segment numbers in a journal folder, ascending. */
export async function segmentNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .filter((name) => name.endsWith('.journal'))
    .map((name) => Number.parseInt(name, 10))
    .sort((a, b) => a - b);
}

/** A boot's journal folder, marked as this process's. */
export async function claimFolder(root: string, boot: string): Promise<string> {
  const folder = join(root, boot);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(
    join(folder, OWNER_FILE),
    JSON.stringify({ pid: process.pid, startedAt: await startOf(process.pid) }),
    { mode: 0o600 },
  );
  return folder;
}

/**
 * Takes over the journals of dead boots under `root`: each folder is renamed to `<boot>~<successor>`, which only one
 * process can win. `root` belongs to one gateway instance; processes that cannot see each other must not share it.
 */
export async function adoptDeadFolders(root: string, successor: string): Promise<{ boot: string; folder: string }[]> {
  const adopted: { boot: string; folder: string }[] = [];
  for (const name of await readdir(root)) {
    const boot = name.split('~')[0]!;
    if (boot === successor || (await ownerLives(join(root, name)))) continue;
    const folder = join(root, `${boot}~${successor}`);
    try {
      await rename(join(root, name), folder);
      await claimFolder(root, `${boot}~${successor}`);
      adopted.push({ boot, folder });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // another successor was faster
    }
  }
  return adopted;
}

async function ownerLives(folder: string): Promise<boolean> {
  try {
    const owner = JSON.parse(await readFile(join(folder, OWNER_FILE), 'utf8')) as { pid: number; startedAt: string };
    // After a restart of a container our own number may be the dead owner's: the start time tells them apart.
    return owner.startedAt === (await startOf(owner.pid)) && isRunning(owner.pid);
  } catch {
    const age = Date.now() - (await stat(folder).catch(() => ({ mtimeMs: 0 }))).mtimeMs;
    return age < STARTING_MS && (await segmentNumbers(folder).catch(() => [])).length === 0;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When the process began, in clock ticks since the boot of the machine (Linux); elsewhere only that it runs. */
async function startOf(pid: number): Promise<string> {
  try {
    const stats = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stats.slice(stats.lastIndexOf(')') + 2).split(' ')[19] ?? 'unknown';
  } catch {
    return process.platform === 'linux' ? 'gone' : 'unknown';
  }
}

export const forgetFolder = (folder: string): Promise<void> => rm(folder, { recursive: true, force: true });
export const forgetSegment = (folder: string, number: number): Promise<void> =>
  rm(join(folder, segmentName(number)), { force: true });

/** Reads a journal's whole lines in order, following it as it grows and from one segment to the next. */
export class JournalReader {
  private segment: number | undefined;
  private file: FileHandle | undefined;
  private offset = 0;
  private readonly buffer = Buffer.allocUnsafe(256 * 1024);

  /** @param beginning number of the segment to begin with; the first there is where it is not given */
  constructor(
    private readonly folder: string,
    private readonly beginning?: number,
  ) {}

  /** The next whole lines, at most 256 KiB of them; [] at the present end. A last line without its end is not read. */
  async read(): Promise<string[]> {
    if (!this.file) {
      const first = this.beginning ?? (await segmentNumbers(this.folder))[0];
      if (first === undefined) return [];
      this.file = await this.begin(first);
      if (!this.file) return [];
    }
    const lines = await this.whole(this.file);
    if (lines.length > 0) return lines;
    const next = await this.begin(this.segment! + 1);
    if (!next) return [];
    // Only now it is certain that this one is closed: what it got before it was is still to be read. What then remains
    // is a torn line, which is no entry.
    const rest = await this.whole(this.file);
    if (rest.length > 0) {
      await next.close();
      return rest;
    }
    await this.file.close();
    this.file = next;
    this.segment = this.segment! + 1;
    this.offset = 0;
    return this.read();
  }

  async close(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
  }

  private async whole(file: FileHandle): Promise<string[]> {
    const { bytesRead } = await file.read(this.buffer, 0, this.buffer.length, this.offset);
    const end = bytesRead === 0 ? -1 : this.buffer.lastIndexOf(0x0a, bytesRead - 1);
    if (end === -1) return [];
    this.offset += end + 1;
    return this.buffer.toString('utf8', 0, end).split('\n');
  }

  /** The segment of that number, if it was begun. */
  private async begin(number: number): Promise<FileHandle | undefined> {
    try {
      const file = await open(join(this.folder, segmentName(number)), 'r');
      this.segment ??= number;
      return file;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}
