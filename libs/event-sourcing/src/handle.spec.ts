import { describe, expect, it } from '@jest/globals';
import { fold, handle, InMemoryStore, WrongVersion, type Decider, type StreamStore } from './index.js';

type Event = { type: 'Added'; amount: number } | { type: 'Closed' };
type Command = { type: 'add'; amount: number } | { type: 'close' };
interface State {
  readonly total: number;
  readonly closed: boolean;
}

const tally: Decider<Command, State, Event> = {
  initial: { total: 0, closed: false },
  decide(command, state) {
    if (command.type === 'close') return state.closed ? [] : [{ type: 'Closed' }];
    if (state.closed) throw new Error('closed');
    return [{ type: 'Added', amount: command.amount }];
  },
  evolve: (state, event) =>
    event.type === 'Closed' ? { ...state, closed: true } : { ...state, total: state.total + event.amount },
};
const metadata = { actor: 'test', correlationId: 'c' };

/** Lets somebody else append just before each of the first `races` appends. */
function contended(store: InMemoryStore<Event>, races: number): StreamStore<Event> {
  let left = races;
  return {
    read: (streamId) => store.read(streamId),
    async append(streamId, expected, events, metadata) {
      if (left > 0) {
        left -= 1;
        await store.append(streamId, expected, [{ type: 'Added', amount: 100 }], metadata);
      }
      await store.append(streamId, expected, events, metadata);
    },
  };
}

describe('handle', () => {
  it('appends what was decided and answers the state after it', async () => {
    const store = new InMemoryStore<Event>();
    await handle(store, tally, 's', { type: 'add', amount: 2 }, metadata);
    const handled = await handle(store, tally, 's', { type: 'add', amount: 3 }, metadata);
    expect(handled).toEqual({
      events: [{ type: 'Added', amount: 3 }],
      state: { total: 5, closed: false },
      version: 2,
    });
    expect(store.metadata('s')).toEqual([metadata, metadata]);
  });

  it('writes nothing for a command that is already honoured', async () => {
    const store = new InMemoryStore<Event>();
    await handle(store, tally, 's', { type: 'close' }, metadata);
    const again = await handle(store, tally, 's', { type: 'close' }, metadata);
    expect(again).toMatchObject({ events: [], version: 1, state: { closed: true } });
    expect((await store.read('s')).version).toBe(1);
  });

  it('decides a lost race again on what the winner made true', async () => {
    const store = new InMemoryStore<Event>();
    const handled = await handle(contended(store, 3), tally, 's', { type: 'add', amount: 1 }, metadata);
    expect(handled).toMatchObject({ state: { total: 301 }, version: 4 });
  });

  it('gives up after the retries, having written nothing of its own', async () => {
    const store = new InMemoryStore<Event>();
    const losing = handle(contended(store, 4), tally, 's', { type: 'add', amount: 1 }, metadata, { retries: 3 });
    await expect(losing).rejects.toBeInstanceOf(WrongVersion);
    expect(fold(tally, (await store.read('s')).events).total).toBe(400);
  });

  it('hands on a refusal and does not repeat it', async () => {
    const store = new InMemoryStore<Event>();
    await handle(store, tally, 's', { type: 'close' }, metadata);
    await expect(handle(store, tally, 's', { type: 'add', amount: 1 }, metadata)).rejects.toThrow('closed');
  });

  it('keeps streams apart', async () => {
    const store = new InMemoryStore<Event>();
    await handle(store, tally, 'a', { type: 'add', amount: 1 }, metadata);
    expect(await store.read('b')).toEqual({ events: [], version: 0 });
  });
});
