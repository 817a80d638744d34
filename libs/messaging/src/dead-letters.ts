import { JetStreamApiCodes, JetStreamApiError, type StoredMsg } from '@nats-io/jetstream';
import { deadLetterSubject, DLQ, droppedSubject, REDRIVE, redriveSubject } from '@sluice/contracts/subjects';
import { originOf } from './dead-letter.js';
import type { Link } from './link.js';
import type { Messaging } from './messaging.js';

const PUBLISH_MS = 5_000;

export interface WaitingDeadLetters {
  readonly stream: string;
  readonly durable: string;
  readonly waiting: number;
}

/** A message that its consumer could not handle, as it lies in DLQ. */
export interface StoredDeadLetter {
  /** In DLQ. */
  readonly sequence: number;
  /** Of the consumer that could not handle it. */
  readonly stream: string;
  readonly durable: string;
  readonly diedAt: Date;
  /** Name of the error. */
  readonly reason: string;
  /** What it was in its own stream. */
  readonly original: {
    readonly subject: string;
    readonly sequence: number;
    readonly messageId: string;
    readonly deliveries: number;
  };
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly data: Uint8Array;
}

/** How many dead letters each consumer has; who has none is not in it. One question, however many there are. */
export async function deadLetterCounts(link: Pick<Link, 'manager'>): Promise<WaitingDeadLetters[]> {
  const { state } = await (
    await link.manager()
  ).streams.info(DLQ, { subjects_filter: deadLetterSubject('*', '*'), deleted_details: false, offset: 0 });
  return Object.entries(state.subjects ?? {}).map(([subject, waiting]) => ({ ...consumerOf(subject), waiting }));
}

/** What operators do about dead letters. Whatever is decided is stored first and then taken out of DLQ. */
export class DeadLetters {
  readonly #messaging: Messaging;

  /** @param messaging as the NATS user `operator` */
  constructor(messaging: Messaging) {
    this.#messaging = messaging;
  }

  counts(): Promise<WaitingDeadLetters[]> {
    return deadLetterCounts(this.#messaging);
  }

  /** Of the newest dead letter so far: what dies again while it is sent again comes behind it. */
  async newest(): Promise<number> {
    return (await (await this.#messaging.manager()).streams.info(DLQ)).state.last_seq;
  }

  /** The oldest first, one at a time in memory. @param durable of one consumer only */
  async *list(durable = '*'): AsyncGenerator<StoredDeadLetter> {
    const manager = await this.#messaging.manager();
    for (let seq = 1; ;) {
      const next = { seq, next_by_subj: deadLetterSubject('*', durable) };
      const message = await manager.streams.getMessage(DLQ, next);
      if (!message) return;
      yield letterIn(message);
      seq = message.seq + 1;
    }
  }

  async find(sequence: number): Promise<StoredDeadLetter | undefined> {
    const message = await (await this.#messaging.manager()).streams.getMessage(DLQ, { seq: sequence });
    return message ? letterIn(message) : undefined;
  }

  /**
   * Sends it again to the consumer that could not handle it, and to no other: who has handled the original does not get it
   * twice. Killed in between, the next call ends what this one began: the second sending is dropped as a repetition.
   * @throws where there is no such consumer any more: nobody would hear of it
   */
  async redrive(letter: StoredDeadLetter): Promise<void> {
    await this.#requireConsumer(letter.durable);
    await this.#decide(letter, redriveSubject(letter.stream, letter.durable), letter.headers);
  }

  /** Gives it up. It is kept with the reason for 30 days, among the decisions. */
  async drop(letter: StoredDeadLetter, reason: string): Promise<void> {
    const headers = { ...letter.headers, 'Sluice-Drop-Reason': [reason] };
    await this.#decide(letter, droppedSubject(letter.stream, letter.durable), headers);
  }

  async #decide(letter: StoredDeadLetter, subject: string, headers: StoredDeadLetter['headers']): Promise<void> {
    // A sequence alone would name another letter where the stream was made anew.
    const id = `${subject}:${letter.sequence}:${letter.diedAt.getTime()}`;
    await this.#messaging.publish(subject, letter.data, { id, headers, timeoutMs: PUBLISH_MS });
    await this.#remove(letter.sequence);
  }

  async #requireConsumer(durable: string): Promise<void> {
    try {
      await (await this.#messaging.manager()).consumers.info(REDRIVE, durable);
    } catch (error) {
      if (!(error instanceof JetStreamApiError) || error.code !== JetStreamApiCodes.ConsumerNotFound) throw error;
      throw new Error(`nobody listens as ${durable} to what is sent again`, { cause: error });
    }
  }

  async #remove(sequence: number): Promise<void> {
    const { streams } = await this.#messaging.manager();
    try {
      await streams.deleteMessage(DLQ, sequence);
    } catch (error) {
      // Somebody else may have taken it out at this moment; where it is still there, the refusal is one.
      if (!(error instanceof JetStreamApiError) || (await streams.getMessage(DLQ, { seq: sequence }))) throw error;
    }
  }
}

function letterIn(message: StoredMsg): StoredDeadLetter {
  const headers: Record<string, readonly string[]> = {};
  for (const name of message.header.keys()) {
    if (!/^nats-/i.test(name)) headers[name] = message.header.values(name);
  }
  const unknown = { subject: '', sequence: 0, messageId: `${DLQ}:${message.seq}` };
  const { reason, ...original } = originOf(headers, unknown);
  const { seq: sequence, time: diedAt, data } = message;
  return { sequence, ...consumerOf(message.subject), diedAt, reason, original, headers, data };
}

/** `dlq.<stream>.<durable>`; neither name has a dot. */
function consumerOf(subject: string): { stream: string; durable: string } {
  const [, stream = '', durable = ''] = subject.split('.');
  return { stream, durable };
}
