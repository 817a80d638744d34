import { Migration } from '@mikro-orm/migrations';

/** Price versions in pico-USD per token. A request is charged at the version it was admitted at, so none ever changes. */
export class CreatePrices extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table prices (
        version text primary key,
        model text not null,
        input numeric(38,0) not null check (input >= 0),
        cached_input numeric(38,0) not null check (cached_input >= 0),
        output numeric(38,0) not null check (output >= 0),
        effective_from timestamptz not null,
        source text not null check (source in ('file', 'operator')),
        created_at timestamptz not null default now(),
        unique (model, effective_from)
      )`);
    this.addSql(`
      create function prices_are_immutable() returns trigger language plpgsql as $$
      begin raise exception 'price versions are immutable: set a new one'; end $$`);
    this.addSql(`
      create trigger prices_are_immutable before update or delete or truncate on prices
      for each statement execute function prices_are_immutable()`);
  }
}
