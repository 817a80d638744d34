import { Migration } from '@mikro-orm/migrations';

/** Pools, and each seat of each hour of the day that there is: whoever reserves, reserves one of these rows. */
export class CreatePools extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table pools (
        pool_id uuid primary key,
        name text not null unique,
        models text[] not null,
        price_per_block_hour numeric(38,0) not null check (price_per_block_hour > 0),
        capacity integer[] not null check (array_length(capacity, 1) = 24),
        blocks jsonb not null,
        created_at timestamptz not null
      )`);
    this.addSql(`
      create table pool_seats (
        pool_id uuid not null references pools,
        hour integer not null check (hour between 0 and 23),
        seat integer not null check (seat >= 0),
        primary key (pool_id, hour, seat)
      )`);
  }
}
