import type { IncomingHttpHeaders } from 'node:http';

/** With Messages a part of what is asked stands in headers; a worker that speaks them has to see it. */
export function dialectHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const name of ['anthropic-version', 'anthropic-beta']) {
    const value = headers[name];
    if (typeof value === 'string') passed[name] = value;
  }
  return passed;
}
