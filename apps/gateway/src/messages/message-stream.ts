import type { ReportedUsage } from '../inference/usage.js';
import { BlockSequence, type BlockEvent, type Piece } from './block-sequence.js';
import { chunk, readAs, thoughtOf, type Spoken } from './chat-answer.js';
import { messageId, messageJson, stopJson, usageJson } from './message.js';
import { stopOf } from './stop.js';

/** Chunks of a chat completion in, events of a message out. What it keeps does not grow with the stream. */
export class MessageStream {
  private readonly id: string;
  private readonly blocks: BlockSequence;
  private started = false;
  private reason: string | null | undefined;
  private by: unknown;
  private refused = false;

  /** @param sequences the client's stop sequences */
  constructor(
    requestId: string,
    private readonly sequences: readonly string[],
  ) {
    this.id = messageId(requestId);
    this.blocks = new BlockSequence(this.id);
  }

  /**
   * @param event one whole event of the worker
   * @param usage what it has counted by now
   * @returns the events that come of it, maybe none
   * @throws SyntaxError where it cannot be read
   */
  push(event: Buffer, usage: ReportedUsage | undefined): string {
    const data = dataOf(event.toString('utf8'));
    if (data === '') return '';
    const { model, choices } = readAs(chunk, JSON.parse(data));
    const start = this.started ? '' : this.start(model ?? '', usage);
    const choice = choices.find(({ index }) => (index ?? 0) === 0);
    if (!choice) return start;
    const events = piecesOf(choice.delta ?? {}).flatMap((piece) => this.blocks.take(piece));
    this.refused ||= !!choice.delta?.refusal;
    if (choice.finish_reason) {
      this.reason = choice.finish_reason;
      this.by = choice.stop_reason ?? choice.matched_stop;
      events.push(...this.blocks.finish());
    }
    return start + events.map(sse).join('');
  }

  /** The last events: nothing may be missing anywhere when the client has read them. @throws SyntaxError */
  end(usage: ReportedUsage | undefined): string {
    const start = this.started ? '' : this.start('', usage);
    const events = this.blocks.finish();
    const { reason, by, refused } = this;
    const stop = stopOf({ reason, by, usesTools: this.blocks.usesTools, refused }, this.sequences);
    const delta = { container: null, ...stopJson(stop) };
    const last = [{ type: 'message_delta', delta, usage: usageJson(usage) }, { type: 'message_stop' }] as const;
    return start + [...events, ...last].map(sse).join('');
  }

  private start(model: string, usage: ReportedUsage | undefined): string {
    this.started = true;
    const stop = { reason: null, sequence: null };
    return sse({ type: 'message_start', message: messageJson({ id: this.id, content: [], model, stop, usage }) });
  }
}

/** In the order in which a model says them, where one chunk has several. */
function piecesOf(delta: Spoken): Piece[] {
  const text = delta.content || delta.refusal || '';
  const thought = thoughtOf(delta);
  return [
    ...(thought === '' ? [] : [{ kind: 'thinking', text: thought } as const]),
    ...(text === '' ? [] : [{ kind: 'text', text } as const]),
    ...(delta.tool_calls ?? []).map(({ index, id, function: called }): Piece => ({
      kind: 'tool_use',
      index: index ?? 0,
      id: id || undefined,
      name: called?.name || undefined,
      text: called?.arguments ?? '',
    })),
  ];
}

/** The events of the dialect. */
export type MessageEvent =
  | BlockEvent
  | { readonly type: 'message_start'; readonly message: ReturnType<typeof messageJson> }
  | {
      readonly type: 'message_delta';
      readonly delta: ReturnType<typeof stopJson> & { readonly container: null };
      readonly usage: ReturnType<typeof usageJson>;
    }
  | { readonly type: 'message_stop' };

const sse = (event: MessageEvent): string => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

/** The data of an event; empty for comments. */
function dataOf(event: string): string {
  return event
    .split(/\r?\n/)
    .flatMap((line) => (line.startsWith('data:') ? [line.slice(5)] : []))
    .join('\n')
    .trim();
}
