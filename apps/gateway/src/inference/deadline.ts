import { Rejected } from '@sluice/contracts/errors';

const DEFAULT_DEADLINE_MS = 600_000;
const MAX_DEADLINE_MS = 3_600_000;

/** `x-sluice-deadline-ms`, or what there is without it. @throws Rejected `invalid_request` */
export function readDeadline(header: string | string[] | undefined): number {
  if (header === undefined) return DEFAULT_DEADLINE_MS;
  const milliseconds = Number(header);
  if (!Number.isInteger(milliseconds) || milliseconds < 1 || milliseconds > MAX_DEADLINE_MS) {
    const message = `x-sluice-deadline-ms must be a whole number of milliseconds from 1 to ${MAX_DEADLINE_MS}.`;
    throw new Rejected('invalid_request', message, { param: 'x-sluice-deadline-ms' });
  }
  return milliseconds;
}
