import { Rejected } from '@sluice/contracts/errors';
import { estimateTokens } from '../inference/estimate.js';
import { readInferenceRequest, type InferenceRequest } from '../inference/inference-request.js';
import { ResponsesReading } from './responses-reading.js';

const NOT_STORED = 'is not there: answers are not stored; send the conversation in input';

/** What rests on stored answers or prompts. A worker's own store is no way out: all organizations share it. */
const NEEDS_A_STORE: Readonly<Record<string, string>> = {
  previous_response_id: NOT_STORED,
  conversation: NOT_STORED,
  background: 'is not there: an answer that nobody waits for would have to be stored',
  prompt: 'is not there: prompts are not stored; send instructions and input',
};

/**
 * A request for a response, passed through. `store: true` is what the SDKs send without being asked, so it is no error: as
 * vLLM without a store does, the request is served and nothing is stored; the worker is told not to. It is told the id
 * of the answer too (vLLM's `request_id`): the client's own could be that of somebody else's request.
 * @throws Rejected `invalid_request` naming the field
 */
export function readResponsesRequest(raw: Buffer | undefined, requestId: string): InferenceRequest {
  const request = readInferenceRequest(raw);
  for (const [param, why] of Object.entries(NEEDS_A_STORE)) {
    const value = request.body[param];
    if (value !== undefined && value !== null && value !== false)
      throw new Rejected('invalid_request', `${param} ${why}.`, { param });
  }
  const { store } = request.body;
  if (store !== undefined && store !== null && typeof store !== 'boolean')
    throw new Rejected('invalid_request', 'store must be a boolean.', { param: 'store' });
  return {
    ...request,
    body: { ...request.body, store: false, request_id: `resp_${requestId}` },
    reading: new ResponsesReading(() => estimateTokens(request, [])),
  };
}
