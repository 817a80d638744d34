import { expect, it } from '@jest/globals';
import { proved } from './proved.ts';

const PROVE_MS = 600_000;

/** What the command says in its last line. */
interface Verdict {
  readonly goals: Readonly<Record<string, { readonly value: unknown; readonly ok: boolean }>>;
}

it(
  'the books follow from their entries under kill -9 of billing, and whatever could be wrong with them is found',
  async () => {
    const { output, verdict } = await proved<Verdict>('ledger', '--seconds', '12');
    // Which kinds of movement came up in that time is the machine's; those goals are the command's own.
    const said = Object.fromEntries(
      ['whole', 'stray', 'booked', 'asAnswered', 'repeatable'].map((goal) => [goal, verdict.goals?.[goal]?.ok]),
    );
    if (Object.values(said).some((ok) => ok !== true)) console.error(output);
    expect(said).toEqual({ whole: true, stray: true, booked: true, asAnswered: true, repeatable: true });
    console.log(output.trim().split('\n').at(-1));
  },
  PROVE_MS,
);
