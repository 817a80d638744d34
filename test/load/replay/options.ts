import { parseArgs } from 'node:util';

export interface ReplayOptions {
  readonly trace: string;
  readonly requests: number;
  /** Arrival times are divided by it; undefined: such that 500 requests take 20 s. */
  readonly speed: number | undefined;
  readonly keys: number;
  /** Undefined: all models of the demo. */
  readonly models: number | undefined;
  readonly demo: string;
  /** Requests under way at once, at most; others wait in the client. */
  readonly concurrency: number;
  /** Where the figures go as JSON. */
  readonly json: string | undefined;
  /** Seconds a request may take. */
  readonly timeout: number;
  /** Seconds that metering and ledger get to catch up. */
  readonly settle: number;
}

export const USAGE = `npm run replay -- [options]
  --trace FILE       CSV with TIMESTAMP,ContextTokens,GeneratedTokens (default: 500 rows of the Azure trace)
  --requests N       its first N rows (500)
  --speed X          arrival times divided by X (default: such that 500 requests take 20 s)
  --keys K           row i is sent on key i mod K (5)
  --models M         and to model i mod M (all models of the demo)
  --demo FILE        facts of the running stack, as npm start writes them (.sluice/demo.json)
  --concurrency N    requests under way at once, at most (256)
  --timeout S        seconds a request may take (120)
  --settle S         seconds that metering and ledger get to catch up (60)
  --json FILE        write the figures there as well
  --help`;

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** @returns undefined where help is wanted; @throws UsageError */
export function readOptions(args: readonly string[], root: string): ReplayOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const number = (
    name: 'requests' | 'speed' | 'keys' | 'models' | 'concurrency' | 'timeout' | 'settle',
    whole: boolean,
  ) => {
    const text = values[name];
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!(value > 0) || !Number.isFinite(value) || (whole && !Number.isInteger(value)) || value > 1e9) {
      throw new UsageError(`--${name} must be a positive ${whole ? 'whole ' : ''}number, not ${JSON.stringify(text)}`);
    }
    return value;
  };
  return {
    trace: values.trace ?? `${root}/test/load/traces/azure-conversation-500.csv`,
    requests: number('requests', true) ?? 500,
    speed: number('speed', false),
    keys: number('keys', true) ?? 5,
    models: number('models', true),
    demo: values.demo ?? `${root}/.sluice/demo.json`,
    concurrency: number('concurrency', true) ?? 256,
    json: values.json,
    timeout: number('timeout', false) ?? 120,
    settle: number('settle', false) ?? 60,
  };
}

function parse(args: readonly string[]) {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        trace: text,
        requests: text,
        speed: text,
        keys: text,
        models: text,
        demo: text,
        concurrency: text,
        timeout: text,
        settle: text,
        json: text,
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
