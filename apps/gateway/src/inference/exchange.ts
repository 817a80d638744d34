import { USAGE_RANK, type OpenedRequest, type UsageRecord } from '@sluice/contracts/gateway';
import type { ReportedUsage } from './usage.js';

export type Outcome = UsageRecord['outcome'];

/** What is learned of one request while it runs, and the record it comes to. Pure: times are given. */
export class Exchange {
  /** Its END was given to the journal; there is never a second one. */
  ended = false;
  attempt = 1;
  worker: string | null = null;
  /** The answer came as a stream, whether or not that was known when it was opened. */
  streamed = false;
  /** Vectors that were answered. */
  embeddings: number | undefined;
  private firstByteAt: number | undefined;
  private usage: ReportedUsage | undefined;
  private usageRank: number = USAGE_RANK.inputOnly;
  private guesses = false;
  /** What was opened as JSON: the journal's, and the router's should this gateway vanish. */
  readonly openedJson: string;

  constructor(
    readonly opened: OpenedRequest,
    /** Monotonic milliseconds. */
    private readonly startedAt: number,
  ) {
    this.openedJson = JSON.stringify(opened);
  }

  get counts(): ReportedUsage | undefined {
    return this.usage;
  }

  /** The counts are not the worker's, or the length of the sound is a guess. */
  get estimated(): boolean {
    return this.guesses || this.usage?.audio?.by === 'guess';
  }

  /** By the worker. */
  get counted(): boolean {
    return this.usage !== undefined && !this.guesses;
  }

  /** Input and output as far as they are known; undefined when nothing was counted. */
  get tokens(): number | undefined {
    return this.usage && this.usage.input + this.usage.output;
  }

  /** A count of the worker; a running one is as good as the stream is long. */
  saw(usage: ReportedUsage, final: boolean): void {
    this.usage = usage;
    this.guesses = false;
    if (!isWorkers(usage)) this.usageRank = USAGE_RANK.tokenizer;
    else this.usageRank = final ? USAGE_RANK.workerFinal : USAGE_RANK.workerRunning;
  }

  /** What it must have taken by now, as far as the worker has counted nothing. */
  guessed(usage: ReportedUsage): void {
    if (this.counted) return;
    this.usage = usage;
    this.usageRank = USAGE_RANK.tokenizer;
    this.guesses = true;
  }

  answered(now: number): void {
    this.firstByteAt ??= now;
  }

  /** The usage record but for its place in the journal. */
  record(outcome: Outcome, endedAt: string): Omit<UsageRecord, 'seq'> {
    return {
      ...this.opened,
      stream: this.opened.stream || this.streamed,
      attempt: this.attempt,
      outcome,
      // A stream that ended well has reported its last count, whether or not the worker sent it apart.
      rank:
        outcome === 'ok' && this.usage && !this.guesses && isWorkers(this.usage)
          ? USAGE_RANK.workerFinal
          : this.usageRank,
      estimated: this.estimated,
      inputTokens: String(this.usage?.input ?? 0),
      cachedInputTokens: String(this.usage?.cachedInput ?? 0),
      outputTokens: String(this.usage?.output ?? 0),
      ...(this.usage?.audio ? { audioMs: String(this.usage.audio.ms) } : {}),
      ...(this.usage?.reasoning === undefined ? {} : { reasoningTokens: String(this.usage.reasoning) }),
      ...(this.embeddings === undefined ? {} : { embeddings: String(this.embeddings) }),
      worker: this.worker,
      endedAt,
      ttftMs: this.firstByteAt === undefined ? null : Math.round(this.firstByteAt - this.startedAt),
    };
  }
}

/** Something of it was counted by the worker, and not by the gateway alone. */
const isWorkers = ({ input, output, audio }: ReportedUsage): boolean =>
  audio === undefined || audio.by === 'worker' || input + output > 0;
