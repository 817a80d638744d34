import { describe, expect, it } from '@jest/globals';
import type { Decider } from '@sluice/event-sourcing';
import { deciderSpec } from './decider-spec.js';

interface Door {
  readonly open: boolean;
  readonly log: string[];
}
type Opened = { readonly type: 'opened' };
const opened: Opened = { type: 'opened' };

const door = (decide: (door: Door) => readonly Opened[]): Decider<'open', Door, Opened> => ({
  initial: { open: false, log: [] },
  decide: (_, state) => decide(state),
  evolve: (state) => ({ ...state, open: true }),
});

describe('deciderSpec', () => {
  const { given } = deciderSpec(door(({ open }) => (open ? [] : [opened])));

  it('passes a decider that does as it says', () => {
    given().when('open').yields(opened);
    given(opened).when('open').yields();
  });

  it('fails on other events than expected', () => {
    expect(() => given().when('open').yields()).toThrow();
    expect(() => given(opened).when('open').yields(opened)).toThrow();
  });

  it('fails a decider that is not idempotent, though the events are those expected', () => {
    const forgetful = deciderSpec(door(() => [opened]));
    expect(() => forgetful.given().when('open').yields(opened)).toThrow(/a second time/);
  });

  it('fails a decision that changes the state it looks at', () => {
    const meddling = deciderSpec(
      door(({ open, log }) => {
        log.push('looked');
        return open ? [] : [opened];
      }),
    );
    expect(() => meddling.given().when('open').yields(opened)).toThrow(TypeError);
  });

  it('tells a refusal by its code, and events from a refusal', () => {
    const locked = deciderSpec(
      door(() => {
        throw Object.assign(new Error('no'), { code: 'locked' });
      }),
    );
    locked.given().when('open').refuses('locked');
    expect(() => locked.given().when('open').refuses('other')).toThrow(/refused otherwise/);
    expect(() => given().when('open').refuses('locked')).toThrow(/not refused with locked/);
  });
});
