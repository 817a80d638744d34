import { readFileSync } from 'node:fs';
import { z } from 'zod';

/** What `npm start` writes, as far as a replay needs it. */
const demoSchema = z.object({
  baseUrl: z.url(),
  operatorKey: z.string(),
  managementKey: z.string(),
  models: z.array(z.string()).min(1).readonly(),
  organizationId: z.string(),
  backing: z.object({ postgresUrls: z.object({ billing: z.string(), metering: z.string() }) }),
  workers: z.array(z.object({ id: z.string(), log: z.string() })).readonly(),
});
export type Demo = z.infer<typeof demoSchema>;

export class DemoError extends Error {
  override readonly name = 'DemoError';
}

/** @throws DemoError saying what to do */
export function readDemo(file: string): Demo {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    throw new DemoError(`${file} is not there: start Sluice first (npm start)`);
  }
  const parsed = demoSchema.safeParse(JSON.parse(text));
  if (!parsed.success) throw new DemoError(`${file} is not what npm start writes: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}
