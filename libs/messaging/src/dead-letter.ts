import { deadLetterSubject } from '@sluice/contracts/subjects';
import type { Delivery } from './jetstream.context.js';

export interface DeadLetter {
  readonly subject: string;
  readonly id: string;
  readonly headers: Readonly<Record<string, readonly string[]>>;
}

/**
 * Thrown by a handler: this message can't be handled, however often it comes. It goes to the dead letters at once, while
 * any other error is tried again: a database that is away says nothing about the message.
 */
export class Poison extends Error {
  override readonly name = 'Poison';
  /** @param code what is wrong with it, as a word for headers and logs: never its content */
  constructor(
    readonly code: string,
    options?: ErrorOptions,
  ) {
    super(`message can't be handled: ${code}`, options);
  }
}

/** Where a message goes that can't be handled: unchanged, with its own headers, and why it is here. */
export function deadLetterOf(delivery: Delivery, reason: string): DeadLetter {
  // Expectations were about the stream it was published to; the id becomes this consumer's own.
  const original = Object.entries(delivery.headers).filter(([name]) => !/^nats-(expected-|msg-id$)/i.test(name));
  // One that dies again is another dead letter: the broker would take it for the first one, which is gone by now.
  const again = delivery.redrive === undefined ? '' : `:${delivery.redrive}`;
  return {
    subject: deadLetterSubject(delivery.stream, delivery.durable),
    id: `${delivery.durable}:${delivery.messageId}${again}`,
    headers: {
      ...Object.fromEntries(original),
      'Sluice-Dead-Reason': [reason],
      'Sluice-Dead-Subject': [delivery.subject],
      'Sluice-Dead-Sequence': [String(delivery.sequence)],
      'Sluice-Dead-Deliveries': [String(delivery.deliveries)],
      'Sluice-Dead-Message-Id': [delivery.messageId],
    },
  };
}

/** What a dead letter's headers say of its message: which it was, and why it died. */
export function originOf(headers: Delivery['headers'], unknown: Pick<Delivery, 'subject' | 'sequence' | 'messageId'>) {
  const told = (name: string): string | undefined => headers[`Sluice-Dead-${name}`]?.[0];
  return {
    subject: told('Subject') ?? unknown.subject,
    sequence: Number(told('Sequence') ?? unknown.sequence),
    messageId: told('Message-Id') ?? unknown.messageId,
    reason: told('Reason') ?? 'unknown',
    deliveries: Number(told('Deliveries') ?? 0),
  };
}

/** A dead letter that was sent again, as its handler saw the message at first: an inbox has to know it by the same id. */
export function redriven(delivery: Delivery, stream: string): Delivery {
  const { subject, sequence, messageId } = originOf(delivery.headers, delivery);
  return { ...delivery, subject, sequence, messageId, stream, redrive: delivery.messageId };
}

/** The kind of an error, fit for a header and a log: never its message, which may quote what it stumbled over. */
export function errorName(error: unknown): string {
  const { name, code } = (typeof error === 'object' && error !== null ? error : {}) as {
    name?: unknown;
    code?: unknown;
  };
  const kind = typeof name === 'string' && /^[\w.-]{1,64}$/.test(name) ? name : 'Error';
  return typeof code === 'string' && /^[\w.-]{1,64}$/.test(code) ? `${kind}/${code}` : kind;
}

/** Where an error was thrown, for logs: the first frames of its stack, without its message. */
export function errorPlace(error: unknown): readonly string[] {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const frames = stack.split('\n').filter((line) => /^ {4}at /.test(line));
  return frames.slice(0, 4).map((line) => line.trim());
}
