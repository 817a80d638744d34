import { sql, type RawBuilder } from 'kysely';

/** Name → PostgreSQL type and the value of a row: text for numerics beyond 2^53 and for times, null for NULL. */
export type UnnestColumns<Row> = Readonly<
  Record<string, readonly [type: string, value: (row: Row) => string | number | bigint | boolean | null]>
>;

/** Types whose texts have nothing in them that stands for something in an array. */
const PLAIN = new Set(['bigint', 'boolean', 'double precision', 'integer', 'numeric', 'smallint']);

/**
 * Many rows as one statement with one parameter per column, whatever their number: PostgreSQL ends at 65,535 parameters,
 * and its plan stays the same for every size of a batch. Rows keep their order, so that locks are taken in it.
 * `rows` goes where a sub-select goes, `names` into the column list of an insert.
 */
export function unnest<Row>(rows: readonly Row[], columns: UnnestColumns<Row>) {
  const names = sql.join(Object.keys(columns).map((name) => sql.ref(name)));
  const arrays = sql.join(
    Object.values(columns).map(([type, value]) => sql`${arrayOf(type, rows, value)}::${sql.raw(type)}[]`),
  );
  return { names, rows: sql`select * from unnest(${arrays}) as u(${names})` };
}

/** As PostgreSQL reads an array. The driver would do it too, and look at every number for quotes to escape. */
function arrayOf<Row>(type: string, rows: readonly Row[], value: UnnestColumns<Row>[string][1]): string {
  const plain = PLAIN.has(type);
  let text = '';
  for (const row of rows) {
    const one = value(row);
    text += `${text === '' ? '' : ','}${one === null ? 'NULL' : plain ? String(one) : quoted(String(one))}`;
  }
  return `{${text}}`;
}

const quoted = (text: string): string => `"${/["\\]/.test(text) ? text.replaceAll(/["\\]/g, '\\$&') : text}"`;

/** `a = excluded.a, b = excluded.b`: what `on conflict do update` sets when the new row replaces the old. */
export const replaced = (columns: readonly string[]): RawBuilder<unknown> =>
  sql.join(columns.map((name) => sql`${sql.ref(name)} = ${sql.ref(`excluded.${name}`)}`));
