import { parse } from '@sluice/service-kit';
import { workersProblem } from '../dialects/anthropic.js';
import { readJsonObject, type InferenceRequest } from '../inference/inference-request.js';
import type { Translation } from '../inference/translation.js';
import { chatRequest, tokenizeRequest } from './chat-request.js';
import { messageOf } from './chat-answer.js';
import { parseExact } from './exact-json.js';
import { MessageStream } from './message-stream.js';
import { countTokensRequest, messagesRequest } from './messages-request.js';

/**
 * A request of the Messages dialect as one for chat completions, which is all that workers speak, with the way back for
 * the answer. @throws Rejected `invalid_request` naming the field
 */
export function readMessagesRequest(raw: Buffer | undefined): InferenceRequest {
  const request = parse(messagesRequest, readJsonObject(raw, parseExact));
  return {
    model: request.model,
    stream: request.stream === true,
    // The counts go into the dialect's own events; no byte of the worker's goes out.
    wantsUsage: true,
    wantsContinuousUsage: true,
    body: chatRequest(request),
    translation: translation(request.stop_sequences ?? []),
  };
}

/** What is asked to be counted, as vLLM's `/tokenize` takes it. @throws Rejected `invalid_request` */
export function readCountTokensRequest(raw: Buffer | undefined): { model: string; body: Record<string, unknown> } {
  const request = parse(countTokensRequest, readJsonObject(raw, parseExact));
  return { model: request.model, body: tokenizeRequest(request) };
}

const translation = (sequences: readonly string[]): Translation => ({
  whole: (answer, requestId) => messageOf(answer, requestId, sequences),
  refusal: workersProblem,
  stream: (requestId) => new MessageStream(requestId, sequences),
});
