import type { ReportedUsage } from './usage.js';

/**
 * What a stream must have taken by now, where its worker counts at the end only: its output by the pieces that came, as
 * engines send one for each token, or for some; its input as the worker told it, or by estimate.
 */
export class Pieces {
  private told: Pick<ReportedUsage, 'input' | 'cachedInput'> | undefined;
  private count = 0;

  /** @param estimateInput tokens; asked for once at most */
  constructor(private readonly estimateInput: () => number) {}

  input({ input, cachedInput }: ReportedUsage): void {
    this.told = { input, cachedInput };
  }

  came(): ReportedUsage {
    this.told ??= { input: this.estimateInput(), cachedInput: 0 };
    this.count += 1;
    return { ...this.told, output: this.count };
  }
}
