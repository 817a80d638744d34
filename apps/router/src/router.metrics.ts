import { Counter, Gauge, Histogram } from 'prom-client';

/** Labels are bounded: worker ids by the registry's limit, everything else by a fixed list. */
export const attempts = new Counter({
  name: 'sluice_router_attempts_total',
  help: 'Attempts at a worker by how they ended',
  labelNames: ['outcome'],
});

export const retries = new Counter({
  name: 'sluice_router_retries_total',
  help: 'Attempts beyond the first, by what made them necessary',
  labelNames: ['reason'],
});

export const refusals = new Counter({
  name: 'sluice_router_refusals_total',
  help: 'Requests that no worker answered, by the code they were refused with',
  labelNames: ['code'],
});

export const firstByteSeconds = new Histogram({
  name: 'sluice_router_upstream_ttfb_seconds',
  help: 'From the dispatch of an attempt to the first byte of its answer',
  labelNames: ['endpoint'],
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
});

export const heartbeats = new Counter({
  name: 'sluice_router_heartbeats_total',
  help: 'Heartbeats by what became of them',
  labelNames: ['result'],
});

export const workersInFlight = new Gauge({
  name: 'sluice_router_worker_in_flight',
  help: 'Requests this router has running on a worker',
  labelNames: ['worker'],
});

export const workersByState = new Gauge({
  name: 'sluice_router_workers',
  help: 'Known workers by state',
  labelNames: ['state'],
});

export const witnessed = new Counter({
  name: 'sluice_router_witnessed_total',
  help: 'Requests whose gateway went away, by what became of their usage record; what is dropped only a journal may have',
  labelNames: ['result'],
});

export const witnessedWaiting = new Gauge({
  name: 'sluice_router_witnessed_waiting',
  help: 'Usage records that this router has to publish yet; they are in memory only',
});

export const waiting = new Gauge({
  name: 'sluice_router_waiting',
  help: 'Requests waiting for a worker of their model to appear',
});
