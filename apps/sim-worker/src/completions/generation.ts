import type { Faults } from '../faults/faults.js';
import type { EngineSequence } from '../timing/engine.service.js';
import type { Answer, Counts, Spoken } from './answer.js';
import type { Plan } from './plan.js';

/** A prompt of a request, shared by its choices. */
export interface PromptState {
  readonly tokens: Uint32Array;
  /** Its part of the prefix cache; undefined until the first of its choices got a slot. */
  cached: number | undefined;
}

export type Outcome = 'finished' | 'aborted' | 'error';

/** What a generation does to the world around it. */
export interface Surroundings {
  /** A choice got a slot. Answers how many tokens of its prompt are cached. */
  admitted(choice: Choice, at: number): number;
  token(choice: Choice, at: number): void;
  /** A choice said all it had to say. */
  spoken(choice: Choice, at: number): void;
  /** Stop running these. */
  cancel(choices: readonly Choice[]): void;
  /** Write down how it ended, before the client can know. False where that failed. */
  record(outcome: Outcome, counts: Counts): boolean;
  /** Cut the connection. */
  cut(): void;
  /** End the process. */
  exit(): void;
  after(ms: number, then: () => void): void;
  /** It has ended, one way or the other. */
  left(generation: Generation): void;
}

/** One choice: a sequence of the engine. */
export class Choice implements EngineSequence, Spoken {
  generated = 0;
  running = false;
  /** Monotonic milliseconds of its latest token. */
  latestAt = 0;
  admittedAt = 0;
  readonly tokens: number;
  readonly index: number;
  readonly model: string;
  readonly plan: Plan;
  readonly prompt: PromptState;
  private readonly owner: Generation;

  constructor(owner: Generation, index: number, model: string, plan: Plan, prompt: PromptState) {
    this.owner = owner;
    this.index = index;
    this.model = model;
    this.plan = plan;
    this.prompt = prompt;
    this.tokens = plan.deltas.length;
  }

  get promptTokens(): number {
    return this.prompt.tokens.length;
  }

  heldTokens(): number {
    return this.running ? this.promptTokens + this.generated : 0;
  }

  admitted(at: number): number {
    this.running = true;
    this.admittedAt = at;
    return this.owner.admitted(this, at);
  }

  token(at: number): void {
    this.owner.token(this, at);
  }

  done(): void {}
}

/** A request from the moment it is accepted until it has ended, one way, once. */
export class Generation {
  readonly choices: readonly Choice[];
  private readonly prompts: readonly PromptState[];
  private readonly faults: Faults;
  private readonly answer: Answer;
  private readonly around: Surroundings;
  private total = 0;
  private open: number;
  private ended = false;
  /** Tokens that wait for the end of a stall. */
  private held: { choice: Choice; at: number }[] | undefined;

  constructor(
    model: string,
    prompts: readonly PromptState[],
    plans: readonly (readonly Plan[])[],
    faults: Faults,
    answer: Answer,
    around: Surroundings,
  ) {
    this.prompts = prompts;
    this.faults = faults;
    this.answer = answer;
    this.around = around;
    let index = 0;
    this.choices = prompts.flatMap((prompt, at) =>
      (plans[at] ?? []).map((plan) => new Choice(this, index++, model, plan, prompt)),
    );
    this.open = this.choices.length;
  }

  begin(): void {
    this.answer.begin();
    this.meetFaults();
  }

  /** The client is gone, or the worker shuts down. */
  abort(): void {
    this.end('aborted');
  }

  /** Told to fail before anything was generated. */
  fail(): void {
    this.end('error');
  }

  get over(): boolean {
    return this.ended;
  }

  admitted(choice: Choice, at: number): number {
    const cached = this.around.admitted(choice, at);
    choice.prompt.cached ??= cached;
    return choice.promptTokens - cached;
  }

  token(choice: Choice, at: number): void {
    if (this.ended) return;
    if (this.held !== undefined) {
      this.held.push({ choice, at });
      return;
    }
    choice.generated++;
    this.total++;
    this.around.token(choice, at);
    choice.latestAt = at;
    if (choice.generated === choice.tokens) {
      this.open--;
      choice.running = false;
      this.around.spoken(choice, at);
    }
    // The record comes first: whoever saw the last token finds it there.
    if (this.open === 0 && !this.faultDue() && !this.end('finished')) return this.around.cut();
    this.answer.token(choice);
    if (this.open === 0 && this.ended) this.answer.finish(this.choices, this.counts());
    else this.meetFaults();
  }

  private faultDue(): boolean {
    return this.total === this.faults.dieAfterTokens || this.total === this.faults.exitAfterTokens;
  }

  private meetFaults(): void {
    if (this.total === this.faults.exitAfterTokens) return this.around.exit();
    if (this.total === this.faults.dieAfterTokens) {
      this.end('error');
      return this.around.cut();
    }
    const stall = this.faults.stallMidStream;
    if (stall === undefined || stall.afterTokens !== this.total) return;
    this.held = [];
    this.around.after(stall.ms, () => {
      const held = this.held ?? [];
      this.held = undefined;
      for (const { choice, at } of held) this.token(choice, at);
    });
  }

  private end(outcome: Outcome): boolean {
    if (this.ended) return true;
    this.ended = true;
    for (const choice of this.choices) choice.running = false;
    this.around.cancel(this.choices);
    this.around.left(this);
    return this.around.record(outcome, this.counts());
  }

  private counts(): Counts {
    return {
      promptTokens: this.prompts.reduce((sum, { tokens }) => sum + tokens.length, 0),
      completionTokens: this.total,
      cachedTokens: this.prompts.reduce((sum, { cached }) => sum + (cached ?? 0), 0),
    };
  }
}
