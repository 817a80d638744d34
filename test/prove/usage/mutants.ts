import type { Patch } from '../revocation/build.ts';

/** The product with one rule of the design switched off, in a copy of its build. */
export interface Mutant {
  readonly name: string;
  readonly without: string;
  readonly patches: readonly Patch[];
}

export const MUTANTS: readonly Mutant[] = [];
