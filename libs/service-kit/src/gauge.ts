import { Gauge } from 'prom-client';

/** A gauge that is read when it is scraped. @param read the value now; NaN where it cannot be had */
export function gauge(name: string, help: string, read: () => number | Promise<number>): Gauge {
  return new Gauge({
    name,
    help,
    async collect() {
      this.set(await read());
    },
  });
}
