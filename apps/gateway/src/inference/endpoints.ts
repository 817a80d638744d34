import { Rejected } from '@sluice/contracts/errors';
import { readMessagesRequest } from '../messages/translation.js';
import { readResponsesRequest } from '../responses/responses-request.js';
import { readInferenceRequest, type InferenceRequest } from './inference-request.js';

interface EndpointRules {
  /** Undefined: a form, which is not read whole. @throws Rejected `invalid_request` */
  readonly read: ((body: Buffer | undefined, requestId: string) => InferenceRequest) | undefined;
  /** Where a worker is asked. */
  readonly path: string;
  /** The fields that say how long an answer may be, the one that wins first; none: it generates nothing. */
  readonly most: readonly string[];
}

const TOKENS = ['max_completion_tokens', 'max_tokens'];

/** What clients call, below `/v1/`. */
export const ENDPOINTS = {
  'chat/completions': { read: readInferenceRequest, path: '/v1/chat/completions', most: TOKENS },
  completions: { read: readInferenceRequest, path: '/v1/completions', most: TOKENS },
  embeddings: { read: readInferenceRequest, path: '/v1/embeddings', most: [] },
  messages: { read: readMessagesRequest, path: '/v1/messages', most: TOKENS },
  responses: { read: readResponsesRequest, path: '/v1/responses', most: ['max_output_tokens'] },
  'audio/transcriptions': { read: undefined, path: '/v1/audio/transcriptions', most: [] },
  inference: { read: readPrompt, path: '/v1/completions', most: TOKENS },
} as const satisfies Readonly<Record<string, EndpointRules>>;

export type Endpoint = keyof typeof ENDPOINTS;

/** `{model, prompt, …}`: a text completion by another name, so all that one takes. */
function readPrompt(raw: Buffer | undefined): InferenceRequest {
  const request = readInferenceRequest(raw);
  const { prompt } = request.body;
  if (typeof prompt !== 'string' && !Array.isArray(prompt))
    throw new Rejected('invalid_request', 'prompt must be a string, or an array.', { param: 'prompt' });
  return request;
}
