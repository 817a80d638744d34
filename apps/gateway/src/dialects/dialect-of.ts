import { anthropic } from './anthropic.js';
import type { Dialect } from './dialect.js';
import { openai } from './openai.js';

const MESSAGES = /^\/(?:inference\/v1|v1|w\/[^/]+\/[^/]+\/v1)\/messages(?:[/?]|$)/;

/** The dialect of a path, before anything else is known of the request: who calls it may not even have a key. */
export const dialectOf = (url: string): Dialect => (MESSAGES.test(url) ? anthropic : openai);
