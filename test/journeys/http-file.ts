/** One request of a `.http` file, as VS Code's REST Client reads it; others know all of it but answers as variables. */
export interface HttpRequest {
  /** What stands behind its `###`. */
  readonly title: string;
  /** `# @name x`: later requests may use its answer. */
  readonly name: string | undefined;
  /** Of the answer: a comment with nothing but it, `# 201`, above the request line; 200 where there is none. */
  readonly status: number;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

export interface HttpFile {
  /** Names of its `@name = value` lines. */
  readonly variables: readonly string[];
  readonly requests: readonly HttpRequest[];
}

/** @throws Error where a line is not understood, or a request has no title */
export function parseHttpFile(text: string): HttpFile {
  const blocks = text.split(/^(?=###)/m).map(parseBlock);
  return {
    variables: blocks.flatMap(({ variables }) => variables),
    requests: blocks.flatMap(({ request }) => request ?? []),
  };
}

function parseBlock(block: string): { variables: string[]; request: HttpRequest | undefined } {
  const lines = block.split(/\r?\n/);
  const title = lines[0]!.startsWith('###') ? lines.shift()!.replace(/^#+/, '').trim() : '';
  const variables: string[] = [];
  let name: string | undefined;
  let status = 200;
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const variable = /^@(\w+)\s*=/.exec(line)?.[1];
    const comment = commentOf(line);
    if (variable !== undefined) variables.push(variable);
    else if (comment === undefined) {
      if (title === '') throw new Error(`a request without a title: ${line}`);
      return { variables, request: { title, name, status, ...parseRequest(line, lines.slice(i + 1)) } };
    } else if (/^\d{3}$/.test(comment)) status = Number(comment);
    else name = /^@name\s+(\w+)$/.exec(comment)?.[1] ?? name;
  }
  return { variables, request: undefined };
}

function parseRequest(first: string, rest: readonly string[]) {
  const [, method, url] = /^([A-Z]+)\s+(\S+)(?:\s+HTTP\/[\d.]+)?\s*$/.exec(first) ?? [];
  if (method === undefined || url === undefined) throw new Error(`not a request line: ${first}`);
  const blank = rest.findIndex((line) => line.trim() === '');
  const end = blank === -1 ? rest.length : blank;
  const headers = rest
    .slice(0, end)
    .filter((line) => commentOf(line) === undefined)
    .map((line) => {
      const [, header, value] = /^([\w-]+):\s*(.*?)\s*$/.exec(line) ?? [];
      if (header === undefined || value === undefined) throw new Error(`not a header: ${line}`);
      return [header, value] as const;
    });
  // As the REST Client does: lines of a form end as those of headers.
  const isForm = headers.some(
    ([name, value]) => name.toLowerCase() === 'content-type' && value.startsWith('multipart/'),
  );
  const body = rest
    .slice(end)
    .join(isForm ? '\r\n' : '\n')
    .trim();
  return { method, url, headers: Object.fromEntries(headers), body: body === '' ? undefined : body };
}

const commentOf = (line: string): string | undefined => /^\s*(?:#|\/\/)\s*(.*?)\s*$/.exec(line)?.[1];

/**
 * The request with a value in the place of each `{{variable}}` and `{{name.response.body.$.a.b}}`.
 * @param answers bodies of the requests with a name so far, as parsed JSON
 * @throws Error naming what has no value
 */
export function fill(
  request: HttpRequest,
  values: Readonly<Record<string, string>>,
  answers: ReadonlyMap<string, unknown>,
): HttpRequest {
  const filled = (text: string): string =>
    text.replaceAll(/\{\{([^{}]*)\}\}/g, (_, reference: string) => {
      const [, name, path] = /^(\w+)\.response\.body\.\$\.([\w.]+)$/.exec(reference.trim()) ?? [];
      const value =
        name === undefined || path === undefined ? values[reference.trim()] : valueAt(answers.get(name), path);
      if (typeof value !== 'string' && typeof value !== 'number') throw new Error(`{{${reference}}} has no value`);
      return String(value);
    });
  return {
    ...request,
    url: filled(request.url),
    headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, filled(value)])),
    body: request.body === undefined ? undefined : filled(request.body),
  };
}

const valueAt = (body: unknown, path: string): unknown =>
  path.split('.').reduce<unknown>((part, field) => (part as Record<string, unknown> | null | undefined)?.[field], body);
