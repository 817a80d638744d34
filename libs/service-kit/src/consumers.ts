import { Counter, Gauge } from 'prom-client';

/** What can be told of a handled message; libs/messaging's HandledMessage is one. */
interface Handled {
  readonly delivery: { readonly durable: string };
  readonly outcome: string;
}

/** The durable consumers of an application; libs/messaging's JetStreamStrategy is one. */
interface Consumers {
  deadLetters(): Promise<ReadonlyMap<string, number>>;
}

/** @returns what counts a message by its consumer and outcome: `done`, `retry`, `dead` */
export function countHandled(): (message: Handled) => void {
  const handled = new Counter({
    name: 'messages_handled_total',
    help: 'Messages by durable consumer and outcome: done; retry: comes again; dead: went to the dead letters',
    labelNames: ['consumer', 'outcome'] as const,
  });
  return ({ delivery, outcome }) => handled.inc({ consumer: delivery.durable, outcome });
}

/** Asked at every scrape: NaN of a consumer while the broker can't say. */
export function gaugeDeadLetters(consumers: Consumers): Gauge {
  let known: readonly string[] = [];
  return new Gauge({
    name: 'dead_letters_waiting',
    help: 'Dead letters of a durable consumer that wait in DLQ for an operator (npm run dlq)',
    labelNames: ['consumer'] as const,
    async collect() {
      try {
        const counts = await consumers.deadLetters();
        known = [...counts.keys()];
        for (const [consumer, count] of counts) this.set({ consumer }, count);
      } catch {
        for (const consumer of known) this.set({ consumer }, Number.NaN);
      }
    },
  });
}
