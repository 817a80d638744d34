import type { z } from 'zod';

/** A refusal in vLLM's words: `{"error": {message, type, param, code}}` with the status as `code`. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    type: string,
    message: string,
    param: string | null = null,
    headers: Record<string, string> = {},
  ) {
    super(message);
    this.status = status;
    this.type = type;
    this.param = param;
    this.headers = headers;
  }

  body(): unknown {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.status } };
  }

  /** The same under `/v1/messages`: Anthropic's shape, with vLLM's own types in it. */
  inMessages(): unknown {
    return { type: 'error', error: { type: this.type, message: this.message } };
  }
}

export const badRequest = (message: string, param: string | null = null): Problem =>
  new Problem(400, 'BadRequestError', message, param);

export const unknownModel = (model: string): Problem =>
  new Problem(404, 'NotFoundError', `The model \`${model.slice(0, 200)}\` does not exist.`, 'model');

const MOST_REPORTED = 10;

/** What zod found, without the offending values: they are prompts. */
export function invalidBody(error: z.ZodError): Problem {
  const { issues } = error;
  const lines = issues
    .slice(0, MOST_REPORTED)
    .map((issue) => `  ${['body', ...issue.path].join('.')}: ${issue.message}`);
  const first = issues[0];
  return new Problem(
    400,
    'Bad Request',
    `${issues.length} validation error${issues.length === 1 ? '' : 's'}:\n${lines.join('\n')}`,
    first === undefined ? null : ['body', ...first.path].join('.'),
  );
}
