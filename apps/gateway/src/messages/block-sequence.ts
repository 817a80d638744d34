import { blockJson, toolUseId, type Block } from './message.js';
import { ToolInputScan } from './tool-input.js';

/** What a chunk of the worker adds. Calls of tools are told apart by their index, and come in any order. */
export type Piece =
  | { readonly kind: 'text' | 'thinking'; readonly text: string }
  | {
      readonly kind: 'tool_use';
      readonly index: number;
      readonly id: string | undefined;
      readonly name: string | undefined;
      readonly text: string;
    };

export type BlockEvent =
  | {
      readonly type: 'content_block_start';
      readonly index: number;
      readonly content_block: ReturnType<typeof blockJson>;
    }
  | { readonly type: 'content_block_delta'; readonly index: number; readonly delta: ReturnType<typeof deltaOf> }
  | { readonly type: 'content_block_stop'; readonly index: number };

function deltaOf(kind: Piece['kind'], text: string) {
  if (kind === 'text') return { type: 'text_delta' as const, text };
  return kind === 'thinking'
    ? { type: 'thinking_delta' as const, thinking: text }
    : { type: 'input_json_delta' as const, partial_json: text };
}

/** What blocks have to wait with, in characters: a worker that mixes its calls up worse than this is broken. */
export const MAX_HELD = 1024 * 1024;
export const MAX_WAITING = 1_024;
export const MAX_TOOL_CALLS = 1_024;

interface Part {
  readonly kind: Piece['kind'];
  readonly input: ToolInputScan;
  id: string | undefined;
  name: string | undefined;
  /** What came while another block was open. */
  held: string;
  state: 'waiting' | 'open' | 'closed';
}

/**
 * Blocks one after the other, as the dialect wants them, out of pieces that may come mixed. The first block that is not
 * whole is passed on as it comes; what belongs to later ones is held until it is their turn. A call of a tool is whole when
 * its JSON is, text when something else begins.
 */
export class BlockSequence {
  private readonly calls = new Map<number, Part>();
  private waiting: Part[] = [];
  private open: Part | undefined;
  private blocks = 0;
  private called = 0;
  private held = 0;
  private events: BlockEvent[] = [];

  /** @param message its id, of which calls without an id get theirs */
  constructor(private readonly message: string) {}

  get usesTools(): boolean {
    return this.calls.size > 0;
  }

  /** @throws SyntaxError where the pieces make no sequence, or one that takes too much memory */
  take(piece: Piece): BlockEvent[] {
    this.write(piece.kind === 'tool_use' ? this.callOf(piece) : this.textOf(piece.kind), piece.text);
    while (this.waiting[0] && (!this.open || isWhole(this.open)) && isNamed(this.waiting[0])) this.next();
    return this.taken();
  }

  /** Nothing comes any more: what was held goes out. @throws SyntaxError on a call without a name */
  finish(): BlockEvent[] {
    while (this.waiting.length > 0) this.next();
    this.close();
    return this.taken();
  }

  private callOf(piece: Extract<Piece, { kind: 'tool_use' }>): Part {
    let part = this.calls.get(piece.index);
    // Engines that do not count give each call the same index, and an id of its own.
    const another = piece.id !== undefined && part?.id !== undefined && piece.id !== part.id;
    if (!part || another) {
      if (++this.called > MAX_TOOL_CALLS) throw new SyntaxError('too many tool calls');
      part = this.added('tool_use');
      this.calls.set(piece.index, part);
    }
    part.id ??= piece.id;
    part.name ??= piece.name;
    return part;
  }

  private textOf(kind: 'text' | 'thinking'): Part {
    const last = this.waiting.at(-1) ?? this.open;
    return last?.kind === kind ? last : this.added(kind);
  }

  private added(kind: Piece['kind']): Part {
    if (this.waiting.length >= MAX_WAITING) throw new SyntaxError('too many blocks wait for one that does not end');
    const part: Part = { kind, input: new ToolInputScan(), id: undefined, name: undefined, held: '', state: 'waiting' };
    this.waiting.push(part);
    return part;
  }

  private write(part: Part, text: string): void {
    if (text === '') return;
    if (part.state === 'open') this.delta(part, text);
    else if (part.state === 'waiting') {
      this.held += text.length;
      if (this.held > MAX_HELD) throw new SyntaxError('tool calls are mixed up beyond measure');
      part.held += text;
    } else if (text.trim() !== '') throw new SyntaxError('a tool call goes on behind its end');
  }

  private next(): void {
    this.close();
    const part = this.waiting.shift()!;
    part.state = 'open';
    this.open = part;
    const index = this.blocks++;
    this.events.push({ type: 'content_block_start', index, content_block: blockJson(this.beginning(part, index)) });
    this.held -= part.held.length;
    if (part.held !== '') this.delta(part, part.held);
    part.held = '';
  }

  private beginning({ kind, id, name }: Part, index: number): Block {
    if (kind === 'text') return { type: 'text', text: '' };
    if (kind === 'thinking') return { type: 'thinking', thinking: '' };
    if (name === undefined) throw new SyntaxError('a tool call without a name');
    return { type: 'tool_use', id: toolUseId(id, this.message, index), name, input: {} };
  }

  private delta(part: Part, text: string): void {
    if (part.kind === 'tool_use') part.input.push(text);
    const delta = deltaOf(part.kind, text);
    this.events.push({ type: 'content_block_delta', index: this.blocks - 1, delta });
  }

  private close(): void {
    if (!this.open) return;
    this.events.push({ type: 'content_block_stop', index: this.blocks - 1 });
    this.open.state = 'closed';
    this.open = undefined;
  }

  private taken(): BlockEvent[] {
    const { events } = this;
    this.events = [];
    return events;
  }
}

const isWhole = ({ kind, input }: Part): boolean => kind !== 'tool_use' || input.whole;
const isNamed = ({ kind, name }: Part): boolean => kind !== 'tool_use' || name !== undefined;
