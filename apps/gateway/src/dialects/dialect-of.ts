import { anthropic } from './anthropic.js';
import type { Dialect } from './dialect.js';
import { openai } from './openai.js';
import { responses } from './responses.js';

const FAMILY = /^\/(?:inference\/v1|v1|w\/[^/]+\/[^/]+\/v1)\/(messages|responses)(?:[/?]|$)/;

/** The dialect of a path, before anything else is known of the request: who calls it may not even have a key. */
export function dialectOf(url: string): Dialect {
  const family = FAMILY.exec(url)?.[1];
  if (family === undefined) return openai;
  return family === 'messages' ? anthropic : responses;
}
