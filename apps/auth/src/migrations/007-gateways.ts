import { Migration } from '@mikro-orm/migrations';

/** Two-phase retirement of gateways, revocations that are pending, and who runs the canary. */
export class Gateways extends Migration {
  override async up(): Promise<void> {
    this.addSql('alter table gateways add column retiring_at timestamptz');
    this.addSql(`
      create table pending_in_force (
        id text primary key, version integer not null, inflight text not null, since timestamptz not null,
        message bigint, taken_until timestamptz not null, confirmed integer, of integer, ms integer, at timestamptz
      )`);
    this.addSql('create index pending_in_force_open on pending_in_force (taken_until) where at is null');
    this.addSql('create index pending_in_force_done on pending_in_force (at) where at is not null');
    this.addSql(`
      create table canary_leader (
        one boolean primary key check (one), holder text not null, until timestamptz not null
      )`);
    this.addSql(`insert into canary_leader (one, holder, until) values (true, '', '-infinity')`);
  }
}
