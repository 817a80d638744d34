import { Rejected } from '@sluice/contracts/errors';
import type { Upload } from '../audio/upload.service.js';
import type { Reading } from './reading.js';
import type { Translation } from './translation.js';
import { withModel } from './with-model.js';

export interface InferenceRequest {
  readonly model: string;
  readonly stream: boolean;
  /** The client asked for the usage chunk at the end of the stream. */
  readonly wantsUsage: boolean;
  /** The client asked for usage on every chunk. */
  readonly wantsContinuousUsage: boolean;
  /** For the worker, but for what `upstreamBody` puts into it. */
  readonly body: Record<string, unknown>;
  /** A form that passes through, in place of `body`. */
  readonly upload?: Upload;
  /** The body was translated, and the answer has to be translated back. */
  readonly translation?: Translation;
  /** Where the worker answers in another shape than completions have; it counts without being told to. */
  readonly reading?: Reading;
  /** Goes on as it came, byte for byte but for the model, and not as `body`. */
  readonly raw?: Buffer;
  /** Where a worker is asked, if not at the endpoint's own path. */
  readonly path?: string;
  /** Not every worker speaks this; the same for those that do not. @throws Rejected `invalid_request` */
  readonly translated?: () => InferenceRequest;
}

/** A body that is a JSON object. @throws Rejected `invalid_request` */
export function readJsonObject(
  raw: Buffer | undefined,
  parse: (text: string) => unknown = JSON.parse,
): Record<string, unknown> {
  if (raw === undefined || raw.length === 0) throw new Rejected('invalid_request', 'The body is empty; send JSON.');
  let body: unknown;
  try {
    body = parse(raw.toString('utf8'));
  } catch (cause) {
    throw new Rejected('invalid_request', 'The body is not valid JSON.', { cause });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new Rejected('invalid_request', 'The body must be a JSON object.');
  }
  return body as Record<string, unknown>;
}

/** Reads what the gateway must know of a body; everything else passes through. @throws Rejected `invalid_request` */
export const readInferenceRequest = (raw: Buffer | undefined): InferenceRequest => requestOf(readJsonObject(raw));

/** The same of a body that was parsed. @throws Rejected `invalid_request` */
export function requestOf(fields: Record<string, unknown>): InferenceRequest {
  const { model, stream, stream_options: options } = fields;
  if (typeof model !== 'string' || model === '' || model.length > 256) {
    throw new Rejected('invalid_request', 'model must be a non-empty string of at most 256 characters.', {
      param: 'model',
    });
  }
  if (stream !== undefined && stream !== null && typeof stream !== 'boolean') {
    throw new Rejected('invalid_request', 'stream must be a boolean.', { param: 'stream' });
  }
  if (options !== undefined && options !== null && (typeof options !== 'object' || Array.isArray(options))) {
    throw new Rejected('invalid_request', 'stream_options must be an object.', { param: 'stream_options' });
  }
  const asked = (options ?? {}) as Record<string, unknown>;
  return {
    model,
    stream: stream === true,
    wantsUsage: asked['include_usage'] === true,
    wantsContinuousUsage: asked['include_usage'] === true && asked['continuous_usage_stats'] === true,
    body: fields,
  };
}

/**
 * The body for the worker: its own model id, and for a stream of completions usage forced on every chunk, so that one that
 * breaks is metered to its last chunk.
 */
export function upstreamBody(request: InferenceRequest, model: string): Buffer {
  if (request.raw) return withModel(request.raw, model);
  const forced =
    request.stream && !request.reading
      ? {
          stream_options: {
            ...(request.body['stream_options'] as object | undefined),
            include_usage: true,
            continuous_usage_stats: true,
          },
        }
      : {};
  return jsonBytes({ ...request.body, ...forced, model });
}

/** @throws Rejected `invalid_request` where it is nested so deep that it can be read and not written */
export function jsonBytes(body: object): Buffer {
  return Buffer.from(written(body));
}

/** As JSON text. @throws Rejected `invalid_request` */
export function written(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new Rejected('invalid_request', 'The body is nested too deep.', { cause });
  }
}
