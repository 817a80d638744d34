import type { Answer, Protocol, Spoken } from '../completions/answer.js';
import type { Head } from '../completions/dialect.js';
import { runningUsage } from '../completions/usage.js';
import type { Exchange } from '../server/exchange.server.js';
import type { TranscriptionForm } from './form.server.js';
import { transcriptionRequest, type TranscriptionRequest } from './request.js';

const TOKENS_PER_SEGMENT = 8;

/** vLLM's transcriptions, of a form that was read. Its text formats are OpenAI's: vLLM has none of them yet. */
export function transcription(form: TranscriptionForm): Protocol {
  const request = transcriptionRequest(form);
  return {
    endpoint: '/v1/audio/transcriptions',
    idPrefix: 'transcribe-',
    parse: () => request,
    answer: (exchange, head, _request, omitUsage) =>
      request.stream ? streamed(exchange, head, request, omitUsage) : whole(exchange, request, omitUsage),
  };
}

function whole(exchange: Exchange, request: TranscriptionRequest, omitUsage: boolean): Answer {
  const { audioSeconds, language, format } = request;
  return {
    begin: () => {},
    token: () => {},
    finish([spoken]) {
      const text = spoken!.plan.deltas.join('');
      const segments = segmentsOf(spoken!, audioSeconds);
      switch (format) {
        case 'json':
          return exchange.json(200, {
            text,
            // Rounded up, as there.
            ...(omitUsage ? {} : { usage: { type: 'duration', seconds: Math.ceil(audioSeconds) } }),
          });
        case 'verbose_json':
          return exchange.json(200, { duration: String(audioSeconds), language, text, segments, words: null });
        case 'text':
          return exchange.text(`${text}\n`, 'text/plain; charset=utf-8');
        case 'srt':
          return exchange.text(cuesOf(segments, ','), 'application/x-subrip; charset=utf-8');
        case 'vtt':
          return exchange.text(`WEBVTT\n\n${cuesOf(segments, '.')}`, 'text/vtt; charset=utf-8');
      }
    },
  };
}

/** In chunks of vLLM's own kind, not in OpenAI's events. */
function streamed(exchange: Exchange, head: Head, request: TranscriptionRequest, omitUsage: boolean): Answer {
  const chunk = (choices: unknown[], usage?: object) =>
    exchange.event({ ...head, object: 'transcription.chunk', choices, ...(usage ? { usage } : {}) });
  return {
    begin: () => exchange.openStream(),
    token({ plan, generated, promptTokens }) {
      const last = generated === plan.deltas.length ? { finish_reason: 'stop', stop_reason: null } : {};
      const usage = request.continuousUsage && !omitUsage ? runningUsage(promptTokens, generated) : undefined;
      chunk([{ delta: { content: plan.deltas[generated - 1]! }, ...last }], usage);
    },
    finish(_all, { promptTokens, completionTokens }) {
      if (request.includeUsage && !omitUsage) chunk([], runningUsage(promptTokens, completionTokens));
      exchange.endStream();
    },
  };
}

interface Segment {
  readonly id: number;
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** Some tokens each, evenly spread over the sound. */
function segmentsOf({ plan: { deltas } }: Spoken, seconds: number): Segment[] {
  const count = Math.ceil(deltas.length / TOKENS_PER_SEGMENT);
  return Array.from({ length: count }, (_, id) => ({
    id,
    start: (seconds * id) / count,
    end: (seconds * (id + 1)) / count,
    text: deltas.slice(id * TOKENS_PER_SEGMENT, (id + 1) * TOKENS_PER_SEGMENT).join(''),
  }));
}

const cuesOf = (segments: readonly Segment[], point: ',' | '.'): string =>
  segments
    .map(({ id, start, end, text }) => `${id + 1}\n${stamp(start, point)} --> ${stamp(end, point)}\n${text.trim()}\n`)
    .join('\n');

const stamp = (seconds: number, point: string): string =>
  new Date(Math.round(seconds * 1000)).toISOString().slice(11, 23).replace('.', point);
