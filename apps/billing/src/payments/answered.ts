import { Rejected } from '@sluice/contracts/errors';
import { ProviderUnavailable } from './provider.js';

/** @throws Rejected `unavailable` where the provider could not be asked */
export async function answered<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (!(cause instanceof ProviderUnavailable)) throw cause;
    throw new Rejected('unavailable', 'The payment provider does not answer.', { retryAfter: 5, cause });
  }
}
