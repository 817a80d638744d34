import { readJson } from '../server/exchange.server.js';
import { invalidBody } from '../server/problem.js';
import type { Routes } from '../server/worker.server.js';
import { faultsSchema, NO_FAULTS, type FaultSwitch } from './faults.js';

/** GET tells what is switched on, POST replaces it all, DELETE switches everything off. */
export const faultRoutes = (faults: FaultSwitch, bodyLimit: number): Routes => ({
  '/sim/faults': {
    GET: (exchange) => exchange.json(200, faults.get()),
    async POST(exchange) {
      const parsed = faultsSchema.safeParse(await readJson(exchange.request, bodyLimit));
      if (!parsed.success) throw invalidBody(parsed.error);
      faults.set(parsed.data);
      exchange.json(200, faults.get());
    },
    DELETE(exchange) {
      faults.set(NO_FAULTS);
      exchange.json(200, faults.get());
    },
  },
});
