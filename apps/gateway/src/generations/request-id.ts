/** A request that began so recently may still run, or be on its way to metering: the longest deadline, and some more. */
const UNDER_WAY_MS = 3_900_000;
const ID = '[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}';
/** Workers make the ids of answers of ours: a prefix of the dialect before it, the attempt behind it. */
const OF_A_WORKER = new RegExp(`^(?:(?:chatcmpl|cmpl|embd)-|resp_)?(${ID})(?:\\.\\d{1,3})?$`);
/** Of a message: without dashes. */
const OF_A_MESSAGE = /^msg_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/;

/** The request that an id names: our own `x-request-id`, or the id of an answer that was made of it. */
export const requestIdOf = (id: string): string | undefined =>
  OF_A_WORKER.exec(id)?.[1] ?? OF_A_MESSAGE.exec(id)?.slice(1).join('-');

/** When a request began, in milliseconds: its id is a UUID of version 7. */
const beganAt = (requestId: string): number => parseInt(requestId.replace('-', '').slice(0, 12), 16);

/** Whether what is not known of a request may be a moment later, as far as its age tells. @param now milliseconds */
export const mayBeUnderWay = (requestId: string, now: number): boolean =>
  Math.abs(now - beganAt(requestId)) < UNDER_WAY_MS;
