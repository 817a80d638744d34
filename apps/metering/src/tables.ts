import type { EntityManager } from '@mikro-orm/postgresql';
import type { Kysely } from 'kysely';

/** A rollup; 64-bit counts and pico-USD come back as strings, times as PostgreSQL writes them. */
export interface RollupTable {
  organization_id: string;
  bucket: string;
  key_id: string;
  model: string;
  project: string;
  workload: string;
  outcome: string;
  request_count: string;
  input_tokens: string;
  cached_input_tokens: string;
  output_tokens: string;
  reasoning_tokens: string;
  audio_ms: string;
  embeddings: string;
  cost_pico: string;
  /** Histograms, each as one number: `unpacked` reads it. */
  ttft: string;
  duration: string;
}

/** `usage_by_day_all_keys` is one without keys. */
export type AnyRollupTable = Omit<RollupTable, 'key_id'> & Partial<Pick<RollupTable, 'key_id'>>;

export interface Tables {
  usage_by_minute: RollupTable;
  usage_by_hour: RollupTable;
  usage_by_day: RollupTable;
  key_names: { key_id: string; organization_id: string; name: string; named_at: string; tagged_at: string };
  key_tags: { key_id: string; tag: string; organization_id: string };
}

/** Queries in the transaction of this entity manager, if it has one. */
export const tablesOf = (em: EntityManager): Kysely<Tables> => em.getKysely<Tables>();
