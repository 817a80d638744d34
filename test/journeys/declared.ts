// Holds what was recorded against the dialects' schemas: the official clients' types are generated from them, whole and strict
// about what is required, so the compiler is what judges, and the schemas are those of the locked packages.
import { execFile } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { newFolder } from '../stack.ts';

const TSC = fileURLToPath(new URL('../../node_modules/.bin/tsc', import.meta.url));

/** Lines of the compiler, and characters of each value. */
const [MOST_SHOWN, SHOWN] = [10, 500];

export interface Recorded {
  /** As it is exported: `OpenAI.ChatCompletion` or `Anthropic.Message`. */
  readonly type: string;
  readonly json: unknown;
}

/** What the compiler finds wrong, each with the value it is about. Members that a type does not name are no fault: engines have their own. */
export async function undeclared(all: readonly Recorded[]): Promise<string[]> {
  const folder = newFolder('declared-');
  const head = [
    "import type OpenAI from 'openai';",
    "import type Anthropic from '@anthropic-ai/sdk';",
    'declare function fits<T>(value: T): void;',
  ];
  // JSON reads as a type too, and what has a type of its own may have more than the declared.
  const lines = all.map(({ type, json }) => `fits<${type}>({} as ${JSON.stringify(json)});`);
  writeFileSync(join(folder, 'recorded.ts'), [...head, ...lines, 'export {};', ''].join('\n'));
  const compilerOptions = { noEmit: true, strict: true, skipLibCheck: true, module: 'nodenext', target: 'es2024' };
  const config = { compilerOptions: { ...compilerOptions, types: ['node'] }, files: ['recorded.ts'] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
  try {
    await promisify(execFile)(TSC, ['-p', folder, '--pretty', 'false'], { maxBuffer: 64 * 1024 * 1024 });
    return [];
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    const said = `${stdout ?? ''}${stderr ?? ''}`.split('\n').filter((line) => line !== '');
    if (said.length === 0) throw error;
    return said.slice(0, MOST_SHOWN).map((line) => {
      const at = /recorded\.ts\((\d+),/.exec(line)?.[1];
      return at === undefined ? line : `${line}\n    ${(lines[Number(at) - 1 - head.length] ?? '').slice(0, SHOWN)}`;
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface StreamEvent {
  /** `event:`, where there is one. */
  readonly name: string | undefined;
  readonly data: string;
}

/** The events of a whole stream. @throws Error for bytes that are no event of one `data` line */
export function eventsIn(text: string): StreamEvent[] {
  if (!text.endsWith('\n\n')) throw new Error('the stream does not end with an event');
  return text
    .slice(0, -2)
    .split('\n\n')
    .map((event) => {
      const found = /^(?:event: (.+)\n)?data: (.+)$/.exec(event);
      if (!found) throw new Error(`no event: ${event}`);
      return { name: found[1], data: found[2]! };
    });
}
