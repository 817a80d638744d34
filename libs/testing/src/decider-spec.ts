import { deepStrictEqual, fail } from 'node:assert/strict';
import { fold, type Decider } from '@sluice/event-sourcing';

export interface Given<C, E> {
  /** Decides on what was given. */
  when(command: C): When<E>;
}

export interface When<E> {
  /** Exactly these events; decided again after them, nothing more. No arguments: already honoured. */
  yields(...events: readonly E[]): void;
  /** It is refused: `decide` throws an error whose `code` is this. */
  refuses(code: string): void;
}

/**
 * Given events, when a command, then events or a refusal. Every `yields` also proves that deciding the same command twice
 * yields nothing the second time, so that a retry after a lost answer is safe.
 */
export function deciderSpec<C, S, E>(decider: Decider<C, S, E>): { given: (...events: readonly E[]) => Given<C, E> } {
  return {
    given: (...past) => ({
      when: (command) => ({
        yields(...expected) {
          const before = frozen(fold(decider, past));
          const events = decider.decide(command, before);
          deepStrictEqual(events, expected);
          const again = decider.decide(command, frozen(fold(decider, [...past, ...events])));
          deepStrictEqual(again, [], 'the same command, decided a second time, yields events again');
        },
        refuses(code) {
          let events: readonly E[];
          try {
            events = decider.decide(command, frozen(fold(decider, past)));
          } catch (error) {
            deepStrictEqual((error as { code?: unknown }).code, code, `refused otherwise: ${String(error)}`);
            return;
          }
          fail(
            `not refused with ${code}: ${JSON.stringify(events, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))}`,
          );
        },
      }),
    }),
  };
}

/** A decision that changes the state it looks at throws, instead of passing by luck. */
function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value) && !ArrayBuffer.isView(value)) {
    Object.freeze(value);
    Object.values(value).forEach(frozen);
  }
  return value;
}
