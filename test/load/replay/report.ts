import { formatUsd } from '@sluice/primitives/money';
import { MEASURES, SOURCES, totals, type Figures, type Measure, type Reconciled } from './reconcile.ts';

const TITLES: Readonly<Record<Measure, string>> = { input: 'tokens in', output: 'tokens out', pico: 'money, USD' };
const MOST_MISMATCHES = 10;

const shown = (measure: Measure, value: bigint): string =>
  measure === 'pico' ? formatUsd(value) : value.toLocaleString('en-US');

/** The first columns are names, on the left; the others figures, on the right. */
export function table(rows: readonly (readonly string[])[], names: number): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, at) => (at < names ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!))).join('  ');
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  const [head, ...body] = rows.map(line);
  return [head, rule, ...body.slice(0, -1), rule, body.at(-1)].map((text) => text!.trimEnd()).join('\n');
}

/** The report for people: a table per measure, the unanswered in a line of their own. */
export function report(result: Reconciled): string {
  const total = totals(result.groups);
  const tables = MEASURES.map((measure) => {
    const cells = ({ requests, sums, difference }: typeof total) => [
      String(requests),
      ...SOURCES.map((source) => shown(measure, sums[source][measure])),
      shown(measure, difference[measure]),
    ];
    return table(
      [
        ['key', TITLES[measure], 'requests', ...SOURCES, 'difference'],
        ...result.groups.map((group) => [group.key, group.model, ...cells(group)]),
        ['all', '', ...cells(total)],
      ],
      2,
    );
  });
  return [...tables.flatMap((text) => [text, '']), ...notes(result)].join('\n');
}

function notes({ answered, unanswered, undelivered, mismatches }: Reconciled): string[] {
  const reasons = [...unanswered.reasons].map(([reason, count]) => `${count} × ${reason}`).join(', ');
  const lines = [
    `answered whole: ${answered}`,
    `unanswered: ${unanswered.count}${reasons === '' ? '' : ` (${reasons})`}; nevertheless metered: ${unanswered.metered}` +
      `, with tokens: ${unanswered.withTokens}, charged: ${unanswered.charged} (${figures(unanswered.figures)})`,
    `attempts at workers that were not delivered, and are not charged unless metered above: ${undelivered.attempts}` +
      ` (${figures(undelivered.figures)})`,
  ];
  if (mismatches.length === 0) return [...lines, 'differences: 0'];
  return [
    ...lines,
    `differences: ${mismatches.length}`,
    ...mismatches.slice(0, MOST_MISMATCHES).map(({ requestId, row, what }) => `  row ${row} ${requestId}: ${what}`),
    ...(mismatches.length > MOST_MISMATCHES ? [`  and ${mismatches.length - MOST_MISMATCHES} more`] : []),
  ];
}

const figures = ({ input, output, pico }: Figures): string =>
  `${shown('input', input)} tokens in, ${shown('output', output)} out, ${formatUsd(pico)} USD`;

/** The same for machines; money as decimal strings in USD. */
export function summary(result: Reconciled) {
  const total = totals(result.groups);
  const plain = (measure: Measure, value: bigint) => (measure === 'pico' ? formatUsd(value) : Number(value));
  const bySource = (measure: Measure) =>
    Object.fromEntries(SOURCES.map((source) => [source, plain(measure, total.sums[source][measure])]));
  const { unanswered, undelivered } = result;
  return {
    ok: result.ok,
    requests: result.answered + unanswered.count,
    answered: result.answered,
    unanswered: {
      count: unanswered.count,
      reasons: Object.fromEntries(unanswered.reasons),
      metered: unanswered.metered,
      withTokens: unanswered.withTokens,
      charged: unanswered.charged,
      usd: formatUsd(unanswered.figures.pico),
    },
    undeliveredAttempts: undelivered.attempts,
    tokensIn: bySource('input'),
    tokensOut: bySource('output'),
    usd: bySource('pico'),
    differences: {
      requests: new Set(result.mismatches.map(({ requestId }) => requestId)).size,
      tokensIn: plain('input', total.difference.input),
      tokensOut: plain('output', total.difference.output),
      usd: plain('pico', total.difference.pico),
    },
  };
}
