import { eventCodec, type Decider, type EventsOf } from '@sluice/event-sourcing';
import { z } from 'zod';

/** A small aggregate for the tests of this library. */
const schemas = { Raised: z.object({ by: z.int().positive() }), Sealed: z.object({}) };
export const counterCodec = eventCodec(schemas);
export type CounterEvent = EventsOf<typeof schemas>;
export type CounterCommand = { readonly raise: number } | 'seal';
export interface Counter {
  readonly total: number;
  readonly sealed: boolean;
}

export const counter: Decider<CounterCommand, Counter, CounterEvent> = {
  initial: { total: 0, sealed: false },
  decide(command, state) {
    if (command === 'seal') return state.sealed ? [] : [{ type: 'Sealed', data: {} }];
    if (state.sealed) throw new Error('sealed');
    return [{ type: 'Raised', data: { by: command.raise } }];
  },
  evolve: (state, event) =>
    event.type === 'Sealed' ? { ...state, sealed: true } : { ...state, total: state.total + event.data.by },
};
