import { isCount, readUsage } from '@sluice/contracts/worker-usage';
import type { Reading } from '../inference/reading.js';
import { dataOf, type WorkerEvent } from '../inference/sse.js';
import type { ReportedUsage } from '../inference/usage.js';
import type { AudioLength, AudioMeter } from './audio-length.js';

/** A worker that says more is broken. */
const MAX_TEXT = 8 * 1024 * 1024;
const NOTHING = Buffer.alloc(0);
const NO_TOKENS = { input: 0, cachedInput: 0, output: 0 };
/** Whole seconds of 31 years; beyond it a worker is not believed. */
const MOST_SECONDS = 1_000_000_000;

/**
 * Reads a worker's transcriptions. Whole answers pass as they are, whatever their format. Streams come as OpenAI's events,
 * which pass too, or as vLLM's chunks, which become them. A sound is metered by the length that the worker tells, else by
 * that of its own bytes, as soon as there is an answer: by then the worker has it all.
 */
export class TranscriptionReading implements Reading {
  readonly sequence = 0;
  private text = '';
  private chunked = false;
  private counted: ReportedUsage | undefined;
  /** OpenAI's last event, which the stream's end may still follow. */
  private last: Buffer = NOTHING;

  constructor(private readonly meter: AudioMeter) {}

  parse(bytes: Buffer, contentType: string): unknown {
    return contentType.startsWith('application/json') ? JSON.parse(bytes.toString('utf8')) : undefined;
  }

  usage(answer: unknown): ReportedUsage {
    const { usage, duration } = (answer ?? {}) as { usage?: unknown; duration?: unknown };
    return reportedUsage(usage, this.meter) ?? withAudio(NO_TOKENS, secondsLength(duration) ?? this.meter.length());
  }

  event(bytes: Buffer): WorkerEvent {
    const data = dataOf(bytes);
    if (data === undefined) return this.heard(bytes);
    if (data === '[DONE]') return { ...this.heard(this.ending(bytes)), done: true };
    const event = JSON.parse(data) as Partial<WorkersEvent> | null;
    if (event?.error) return { ...this.heard(NOTHING), failed: true };
    if (Array.isArray(event?.choices)) return this.chunk(event.choices, event.usage);
    if (event?.type !== 'transcript.text.done') return this.heard(bytes);
    this.counted = reportedUsage(event.usage, this.meter);
    this.last = bytes;
    return { ...this.heard(bytes), done: true };
  }

  private chunk(choices: readonly unknown[], usage: unknown): WorkerEvent {
    this.chunked = true;
    const counted = readUsage(usage);
    if (counted) this.counted = withAudio(counted, this.meter.length());
    const { delta } = (choices[0] ?? {}) as { delta?: { content?: unknown } };
    if (typeof delta?.content !== 'string' || delta.content === '') return this.heard(NOTHING);
    this.text += delta.content;
    if (this.text.length > MAX_TEXT) throw new SyntaxError('a transcription is too long');
    return this.heard(eventOf({ type: 'transcript.text.delta', delta: delta.content }));
  }

  private ending(end: Buffer): Buffer {
    if (!this.chunked) return Buffer.concat([this.last, end]);
    const { input, output } = this.counted ?? NO_TOKENS;
    const usage = { type: 'tokens', input_tokens: input, output_tokens: output, total_tokens: input + output };
    const done = { type: 'transcript.text.done', text: this.text, ...(this.counted ? { usage } : {}) };
    return Buffer.concat([eventOf(done), end]);
  }

  private heard(bytes: Buffer): WorkerEvent {
    const usage = this.counted ?? withAudio(NO_TOKENS, this.meter.length());
    return { bytes, usage, done: false, failed: false };
  }
}

interface WorkersEvent {
  readonly type: unknown;
  readonly choices: unknown;
  readonly usage: unknown;
  readonly error: unknown;
}

/** OpenAI's two kinds of usage: tokens, to which the length of the sound is added, or that length. */
function reportedUsage(value: unknown, meter: AudioMeter): ReportedUsage | undefined {
  const usage = (value ?? {}) as Record<string, unknown>;
  if (usage['type'] === 'duration') {
    const audio = secondsLength(usage['seconds']);
    return audio && withAudio(NO_TOKENS, audio);
  }
  const { input_tokens: input, output_tokens: output } = usage;
  if (!isCount(input) || !isCount(output)) return undefined;
  return withAudio({ input, cachedInput: 0, output }, meter.length());
}

/** Seconds of a worker, to the millisecond: a number, or its text, as vLLM tells a duration. */
function secondsLength(value: unknown): AudioLength | undefined {
  const seconds = typeof value === 'string' && /^\d{1,10}(\.\d{1,30})?$/.test(value) ? Number(value) : value;
  if (typeof seconds !== 'number' || !(seconds >= 0 && seconds <= MOST_SECONDS)) return undefined;
  return { ms: Math.round(seconds * 1_000), by: 'worker' };
}

const withAudio = (tokens: Omit<ReportedUsage, 'audio'>, audio: AudioLength): ReportedUsage => ({ ...tokens, audio });

const eventOf = (event: object): Buffer => Buffer.from(`data: ${JSON.stringify(event)}\n\n`);
