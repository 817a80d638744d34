import type { ParseArgsConfig } from 'node:util';
import type { Random } from './random.ts';

/** What a measured figure has to be, for people, and whether it is. */
export interface Goal {
  readonly goal: string;
  readonly value: unknown;
  readonly ok: boolean;
}

export interface Verdict {
  /** Go into the last line as they are. */
  readonly figures: Readonly<Record<string, unknown>>;
  readonly goals: Readonly<Record<string, Goal>>;
}

export interface Run {
  /** The program's own options as they were given. */
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly random: Random;
  /** One line for people. */
  readonly say: (line: string) => void;
  /** Aborted by Ctrl-C: what was started must be stopped. */
  readonly stopping: AbortSignal;
}

/** What `test/prove/NAME.ts` and `test/bench/NAME.ts` export as `program`. */
export interface Program {
  /** One line: what it shows. */
  readonly about: string;
  /** Beside `--seed` and `--help`; `usage` describes them. */
  readonly options: NonNullable<ParseArgsConfig['options']>;
  readonly usage?: string;
  /** What an option of type string stands for when it is given without a value. */
  readonly bare?: Readonly<Record<string, string>>;
  run(run: Run): Promise<Verdict>;
}

/** What the caller got wrong; said without a stack. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A whole number of an option within its limits. @throws UsageError */
export function wholeNumber(name: string, text: string | boolean | undefined, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new UsageError(`--${name} must be a whole number from ${min} to ${max}`);
}
