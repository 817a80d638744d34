import { Injectable } from '@nestjs/common';
import { servedModelsSchema, type WorkerDialect } from '@sluice/contracts/router';
import { loggerFor, type ServiceClient } from '@sluice/service-kit';
import { Recent } from '../organizations/recent.service.js';

const FRESH_MS = 1_000;
/** A worker that has come meanwhile may speak less; the router asks it nothing that it does not speak. */
const USABLE_MS = 5_000;
/** Who waits longer is better served with a translation. */
const ANSWER_MS = 500;

/** What the workers of a model may be asked in, as the router knows them. Asked for only while somebody wants to know. */
@Injectable()
export class SpokenDialects {
  private readonly log = loggerFor('spoken-dialects');
  /** Of models. The router knows them all at once. */
  private readonly known: Recent<ReadonlyMap<string, readonly string[]>>;

  constructor(router: ServiceClient) {
    this.known = new Recent(
      async () => {
        const path = '/internal/models';
        const { models } = await router.ask({ method: 'GET', path, timeoutMs: ANSWER_MS }, servedModelsSchema);
        return new Map(models.map(({ id, dialects }) => [id, dialects]));
      },
      { freshMs: FRESH_MS, usableMs: USABLE_MS, capacity: 1 },
    );
  }

  /**
   * Do all workers of the model speak it? No, where one does not: who speaks only some of them would leave the others idle.
   * Nothing is awaited for long, and a router that does not say counts as a no: every worker that says nothing speaks OpenAI's.
   */
  async areSpoken(dialect: WorkerDialect, model: string): Promise<boolean> {
    try {
      const known = this.known.peek('') ?? (await this.known.get(''));
      return known.get(model)?.includes(dialect) ?? false;
    } catch (err) {
      this.log.debug({ err }, 'the router did not say what is spoken');
      return false;
    }
  }
}
