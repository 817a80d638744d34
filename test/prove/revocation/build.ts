import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** Text of a built file and what stands there instead. It has to be there exactly once. */
export interface Patch {
  /** From the root of the repository. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** The code has changed and a mutant no longer says what it switches off. */
export class PatchError extends Error {
  override readonly name = 'PatchError';
}

/**
 * A copy of what is built, below `dir`: what others build meanwhile does not reach it, and it can be changed. The
 * workspace's own packages are found in the copy, all others where they are installed.
 * @throws PatchError when a patch does not match exactly once
 */
export class BuildCopy {
  readonly root: string;

  constructor(dir: string, patches: readonly Patch[] = []) {
    this.root = join(dir, 'build');
    const modules = join(this.root, 'node_modules', '@sluice');
    mkdirSync(modules, { recursive: true });
    for (const kind of ['apps', 'libs'])
      for (const name of readdirSync(join(ROOT, kind))) {
        const from = join(ROOT, kind, name);
        if (!existsSync(join(from, 'dist'))) continue;
        const to = join(this.root, kind, name);
        cpSync(join(from, 'dist'), join(to, 'dist'), {
          recursive: true,
          filter: (file) => !/\.(d\.ts|map|tsbuildinfo)$|\.spec\.js$/.test(file),
        });
        cpSync(join(from, 'package.json'), join(to, 'package.json'));
        symlinkSync(relative(modules, to), join(modules, name));
      }
    for (const patch of patches) this.patch(patch);
  }

  /** Where a file of the repository's build is in the copy. */
  locate(file: string): string {
    const inside = relative(ROOT, file);
    if (inside.startsWith('..')) throw new Error(`${file} is not of this repository`);
    const copy = join(this.root, inside);
    return existsSync(dirname(copy)) ? copy : file;
  }

  private patch({ file, from, to }: Patch): void {
    const text = textWith(this.root, file, from);
    writeFileSync(
      join(this.root, file),
      text.replace(from, () => to),
    );
  }
}

/** @throws PatchError when a patch does not match what is built */
export function requireFit({ file, from }: Patch): void {
  textWith(ROOT, file, from);
}

function textWith(root: string, file: string, from: string): string {
  const path = join(root, file);
  if (!existsSync(path)) throw new PatchError(`${file} is not there any more`);
  const text = readFileSync(path, 'utf8');
  const times = text.split(from).length - 1;
  if (times !== 1) throw new PatchError(`${file} has ${times} times, and not once:\n${from}`);
  return text;
}
