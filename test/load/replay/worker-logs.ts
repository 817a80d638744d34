import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { z } from 'zod';

const lineSchema = z.object({
  requestId: z.string(),
  time: z.string(),
  model: z.string(),
  promptTokens: z.int(),
  cachedTokens: z.int(),
  completionTokens: z.int(),
  outcome: z.enum(['finished', 'aborted', 'error']),
});
export type LogLine = z.infer<typeof lineSchema>;

/** The lines of requests that `wanted` knows; what a crash left half-written is passed over. */
export async function readWorkerLogs(
  files: readonly string[],
  wanted: (requestId: string) => boolean,
): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for (const file of files) {
    for await (const text of createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Infinity })) {
      const line = parse(text);
      if (line !== undefined && wanted(line.requestId.slice(0, line.requestId.lastIndexOf('.')))) lines.push(line);
    }
  }
  return lines;
}

function parse(text: string): LogLine | undefined {
  try {
    return lineSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
