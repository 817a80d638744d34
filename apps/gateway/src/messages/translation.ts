import { parse } from '@sluice/service-kit';
import { estimateTokens } from '../inference/estimate.js';
import { readJsonObject, requestOf, type InferenceRequest } from '../inference/inference-request.js';
import type { Translation } from '../inference/translation.js';
import { chatRequest, tokenizeRequest } from './chat-request.js';
import { messageOf } from './chat-answer.js';
import { parseExact } from './exact-json.js';
import { MessageStream } from './message-stream.js';
import { MessagesReading } from './messages-reading.js';
import { countTokensRequest, messagesRequest } from './messages-request.js';

type PassedRequest = InferenceRequest & Required<Pick<InferenceRequest, 'translated'>>;

/**
 * A request of the Messages dialect: as it came, for workers that speak it, which judge it themselves.
 * @throws Rejected `invalid_request`
 */
export function readMessagesRequest(raw: Buffer | undefined): PassedRequest {
  const request = passed(raw);
  return {
    ...request,
    reading: new MessagesReading(() => estimateTokens(request, [])),
    translated: () => translatedRequest(request.body),
  };
}

/** The same as one for chat completions, with the way back for the answer. @throws Rejected naming the field */
function translatedRequest(fields: Record<string, unknown>): InferenceRequest {
  const request = parse(messagesRequest, fields);
  return {
    path: '/v1/chat/completions',
    model: request.model,
    stream: request.stream === true,
    // The counts go into the dialect's own events; no byte of the worker's goes out.
    wantsUsage: true,
    wantsContinuousUsage: true,
    body: chatRequest(request),
    translation: translation(request.stop_sequences ?? []),
  };
}

/** What is asked to be counted, by a worker that speaks Messages; translated as vLLM's `/tokenize` takes it. */
export function readCountTokensRequest(raw: Buffer | undefined): PassedRequest {
  const request = { ...passed(raw), stream: false };
  const translated = () => {
    const { raw: _, ...others } = request;
    return { ...others, path: '/tokenize', body: tokenizeRequest(parse(countTokensRequest, request.body)) };
  };
  return { ...request, translated };
}

const passed = (raw: Buffer | undefined) => ({ ...requestOf(readJsonObject(raw, parseExact)), raw: raw! });

const translation = (sequences: readonly string[]): Translation => ({
  whole: (answer, requestId) => messageOf(answer, requestId, sequences),
  stream: (requestId) => new MessageStream(requestId, sequences),
});
