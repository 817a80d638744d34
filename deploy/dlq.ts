// npm run dlq: what operators do about dead letters, the messages that a consumer could not handle. As the NATS user `operator`
// of the running stack, or of NATS_URL.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connect, DeadLetters, type StoredDeadLetter } from '@sluice/messaging';

const DEMO = fileURLToPath(new URL('../.sluice/demo.json', import.meta.url));
const CONNECT_MS = 10_000;
const MAX_REASON = 500;

const USAGE = `usage: npm run dlq -- COMMAND
  list [--consumer NAME] [--json]           what waits, the oldest first
  show SEQUENCE [--content] [--json]        one of them; its content only when asked for: it is a customer's
  redrive SEQUENCE… | --consumer NAME | --all
                                            sends them again to the consumer that could not handle them, and to no other
  drop SEQUENCE… --reason TEXT              gives them up; they are kept with the reason for 30 days`;

/** Not a command of this tool. */
class Misused extends Error {}

type Letters = Pick<DeadLetters, 'list' | 'find' | 'newest' | 'redrive' | 'drop'>;
type Print = (line: string) => void;

/** @returns the exit code: 1 when something named was not there, 2 when it was not said what to do */
export async function dlq(args: readonly string[], letters: Letters, print: Print): Promise<number> {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        consumer: { type: 'string' },
        all: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        content: { type: 'boolean', default: false },
        reason: { type: 'string' },
      },
    });
    const [command, ...named] = positionals;
    const sequences = named.map(sequenceOf);
    if (command === 'list' && sequences.length === 0) return await list(letters, print, values);
    if (command === 'show' && sequences.length === 1) return await show(letters, sequences[0]!, print, values);
    if (command === 'redrive') return await redrive(letters, sequences, print, values);
    if (command === 'drop' && sequences.length > 0) return await drop(letters, sequences, print, values.reason);
    throw new Misused(command === undefined ? 'what?' : `not like this: ${command}`);
  } catch (error) {
    const misused = error instanceof Misused || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
    if (!misused) throw error;
    print(`${(error as Error).message}\n${USAGE}`);
    return 2;
  }
}

async function list(
  letters: Letters,
  print: Print,
  { consumer, json }: { consumer?: string | undefined; json: boolean },
): Promise<number> {
  const waiting = new Map<string, number>();
  for await (const letter of of(consumer, letters)) {
    waiting.set(letter.durable, (waiting.get(letter.durable) ?? 0) + 1);
    print(json ? JSON.stringify(described(letter)) : line(letter));
  }
  if (!json) print(summary(waiting));
  return 0;
}

async function show(
  letters: Letters,
  sequence: number,
  print: Print,
  { content, json }: { content: boolean; json: boolean },
): Promise<number> {
  const letter = await letters.find(sequence);
  if (!letter) return absent(sequence, print);
  const text = content ? { content: new TextDecoder().decode(letter.data) } : {};
  const shown = { ...described(letter), headers: letter.headers, ...text };
  print(JSON.stringify(shown, undefined, json ? undefined : 2));
  return 0;
}

async function redrive(
  letters: Letters,
  sequences: readonly number[],
  print: Print,
  { consumer, all }: { consumer?: string | undefined; all: boolean },
): Promise<number> {
  if (Number(sequences.length > 0) + Number(consumer !== undefined) + Number(all) !== 1)
    throw new Misused('redrive: say which, or of which consumer, or all');
  const send = async (letter: StoredDeadLetter) => {
    await letters.redrive(letter);
    print(`${letter.sequence} goes to ${letter.durable} again`);
  };
  if (sequences.length > 0) return each(letters, sequences, print, send);
  // What dies again meanwhile is not sent a second time, or this would not end.
  const newest = await letters.newest();
  for await (const letter of of(consumer, letters)) {
    if (letter.sequence > newest) break;
    await send(letter);
  }
  return 0;
}

async function drop(letters: Letters, sequences: readonly number[], print: Print, reason = ''): Promise<number> {
  // It becomes a header.
  if (!/\S/.test(reason) || reason.length > MAX_REASON || /[^\x20-\x7e]/.test(reason))
    throw new Misused(`drop: --reason takes 1 to ${MAX_REASON} characters of ASCII`);
  return each(letters, sequences, print, async (letter) => {
    await letters.drop(letter, reason);
    print(`${letter.sequence} of ${letter.durable} is given up`);
  });
}

async function each(
  letters: Letters,
  sequences: readonly number[],
  print: Print,
  decide: (letter: StoredDeadLetter) => Promise<void>,
): Promise<number> {
  let code = 0;
  for (const sequence of sequences) {
    const letter = await letters.find(sequence);
    if (letter) await decide(letter);
    else code = absent(sequence, print);
  }
  return code;
}

const described = ({ sequence, stream, durable, diedAt, reason, original, data }: StoredDeadLetter) => ({
  sequence,
  consumer: durable,
  stream,
  reason,
  diedAt: diedAt.toISOString(),
  bytes: data.byteLength,
  original,
});

const line = (letter: StoredDeadLetter): string => {
  const { sequence, consumer, reason, diedAt, bytes, original } = described(letter);
  return `${String(sequence).padStart(8)}  ${diedAt}  ${consumer}  ${reason}  ${bytes} bytes  ${original.subject}`;
};

function summary(waiting: ReadonlyMap<string, number>): string {
  if (waiting.size === 0) return 'no dead letters';
  return Array.from(waiting, ([consumer, count]) => `${consumer}: ${count}`).join(', ');
}

function absent(sequence: number, print: Print): number {
  print(`${sequence} is no dead letter (any more)`);
  return 1;
}

function sequenceOf(text: string): number {
  const sequence = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (sequence === 0) throw new Misused(`not a sequence: ${text}`);
  return sequence;
}

/** A name stands for its partitions too: `metering-usage` for `metering-usage-0` and the others. */
async function* of(consumer: string | undefined, letters: Letters): AsyncGenerator<StoredDeadLetter> {
  if (consumer !== undefined && !/^[\w-]+$/.test(consumer)) throw new Misused('--consumer: not the name of a consumer');
  for await (const letter of letters.list())
    if (consumer === undefined || letter.durable.replace(/-\d+$/, '') === consumer || letter.durable === consumer)
      yield letter;
}

function natsUrl(): string {
  const given = process.env['NATS_URL'];
  if (given) return given;
  if (!existsSync(DEMO)) throw new Error('Sluice does not run here: start it (npm start), or give NATS_URL');
  return (JSON.parse(readFileSync(DEMO, 'utf8')) as { backing: { operatorNatsUrl: string } }).backing.operatorNatsUrl;
}

if (import.meta.main) {
  const messaging = connect({ url: natsUrl(), name: 'dlq' });
  try {
    await messaging.whenConnected(CONNECT_MS);
    process.exitCode = await dlq(process.argv.slice(2), new DeadLetters(messaging), (text) => console.log(text));
  } catch (error) {
    console.error(`dlq: ${(error as Error).message}`);
    process.exitCode = 1;
  } finally {
    await messaging.close();
  }
}
