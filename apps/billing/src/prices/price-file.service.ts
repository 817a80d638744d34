import { readFile } from 'node:fs/promises';
import { Inject, Injectable } from '@nestjs/common';
import { unitPricesOf } from '@sluice/contracts/usage-claim';
import type { Clock } from '@sluice/primitives/clock';
import { loggerFor } from '@sluice/service-kit';
import { z } from 'zod';
import { CLOCK } from '../clock.js';
import { duePrices } from './price.decider.js';
import { priceFileSchema } from './price.js';
import { PricesStore } from './prices.store.js';

@Injectable()
export class PriceFileService {
  constructor(
    private readonly prices: PricesStore,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * Sets the prices of a file where they are new. It may be read at every start, by every replica. Events wait in the
   * outbox for the relay.
   * @throws when the file can't be read, or is not a price list: better no start than a start without prices
   */
  async load(path: string): Promise<void> {
    const content: unknown = JSON.parse(await readFile(path, 'utf8'));
    const file = priceFileSchema.safeParse(content);
    if (!file.success) throw new Error(`PRICES_FILE is not a price list:\n${z.prettifyError(file.error)}`);
    let made = 0;
    const entries = file.data.prices.map(({ model, prices, effectiveFrom }) => ({
      model,
      prices: unitPricesOf(prices),
      effectiveFrom: effectiveFrom === undefined ? undefined : Date.parse(effectiveFrom),
    }));
    for (const command of duePrices(entries, this.clock.now())) {
      const { messages } = await this.prices.set(command, 'prices-file');
      made += messages.length;
    }
    loggerFor('prices').info({ models: file.data.prices.length, made }, 'price list read');
  }
}
