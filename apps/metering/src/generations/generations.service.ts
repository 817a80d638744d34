import { EntityManager } from '@mikro-orm/postgresql';
import { Injectable } from '@nestjs/common';
import type { Generation, MeteredRequest } from '@sluice/contracts/metering';
import { rfc3339 } from '@sluice/primitives/clock';
import { formatUsd } from '@sluice/primitives/money';
import { sql, type RawBuilder } from 'kysely';
import { count } from '../query/usage-row.js';
import { tablesOf } from '../tables.js';
import { dayOfRequest } from '../usage/request-day.js';

type Row = Record<
  | 'key_id'
  | 'attempt'
  | 'input_price'
  | 'cached_input_price'
  | 'output_price'
  | 'audio_second_price'
  | 'project'
  | 'workload'
  | 'model'
  | 'endpoint'
  | 'input_tokens'
  | 'cached_input_tokens'
  | 'output_tokens'
  | 'audio_ms'
  | 'reasoning_tokens'
  | 'embeddings'
  | 'cost_pico'
  | 'price_version'
  | 'started_ms'
  | 'ended_ms',
  string
> & {
  outcome: Generation['outcome'];
  stream: boolean;
  estimated: boolean;
  ttft_ms: number | null;
  worker: string | null;
};

/** One request, as the best record of it that there is says. */
@Injectable()
export class Generations {
  constructor(private readonly em: EntityManager) {}

  /** Undefined: not of this key, or not recorded yet. */
  async find(organizationId: string, keyId: string, requestId: string): Promise<Generation | undefined> {
    const row = await this.row(requestId, sql`organization_id = ${organizationId} and key_id = ${keyId}`);
    return row && generationOf(requestId, row);
  }

  /**
   * Undefined: not of this organization, or not recorded yet.
   * @param project of a key bound to one: it sees no others; null = all
   */
  async explain(
    organizationId: string,
    project: string | null,
    requestId: string,
  ): Promise<MeteredRequest | undefined> {
    const seen = project === null ? sql`` : sql` and project = ${project}`;
    const row = await this.row(requestId, sql`organization_id = ${organizationId}${seen}`);
    if (row === undefined) return undefined;
    const price = (pico: string) => formatUsd(BigInt(pico));
    return {
      ...generationOf(requestId, row),
      keyId: row.key_id,
      prices: {
        input: price(row.input_price),
        cachedInput: price(row.cached_input_price),
        output: price(row.output_price),
        audioSecond: price(row.audio_second_price),
      },
      worker: row.worker,
      attempt: count(row.attempt),
    };
  }

  private async row(requestId: string, whose: RawBuilder<unknown>): Promise<Row | undefined> {
    const { rows } = await sql<Row>`
      select key_id, project, workload, model, endpoint, outcome, stream, estimated, worker, attempt, input_tokens,
        cached_input_tokens, output_tokens, audio_ms, reasoning_tokens, embeddings, input_price, cached_input_price,
        output_price, audio_second_price, cost_pico, price_version, ttft_ms, (extract(epoch from started_at) * 1000)::bigint as started_ms,
        (extract(epoch from ended_at) * 1000)::bigint as ended_ms
      from usage_records
      where day = ${dayOfRequest(requestId)}::date and request_id = ${requestId} and ${whose}
    `.execute(tablesOf(this.em.fork()));
    return rows[0];
  }
}

function generationOf(requestId: string, row: Row): Generation {
  return {
    id: requestId,
    model: row.model,
    project: row.project,
    workload: row.workload,
    endpoint: row.endpoint,
    stream: row.stream,
    outcome: row.outcome,
    inputTokens: count(row.input_tokens),
    cachedInputTokens: count(row.cached_input_tokens),
    outputTokens: count(row.output_tokens),
    totalTokens: count(String(BigInt(row.input_tokens) + BigInt(row.output_tokens))),
    audioMs: count(row.audio_ms),
    reasoningTokens: count(row.reasoning_tokens),
    embeddings: count(row.embeddings),
    estimated: row.estimated,
    cost: formatUsd(BigInt(row.cost_pico)),
    currency: 'USD',
    priceVersion: row.price_version,
    startedAt: rfc3339(Number(row.started_ms)),
    endedAt: rfc3339(Number(row.ended_ms)),
    ttftMs: row.ttft_ms,
  };
}
