import { Migration } from '@mikro-orm/migrations';

/** The whole life of a key: secrets in a table of their own, its limits, its maker, suspension. */
export class Keys extends Migration {
  override async up(): Promise<void> {
    this.addSql(`
      create table key_secrets (digest text primary key, key_id text not null, until timestamptz)`);
    this.addSql('insert into key_secrets (digest, key_id) select digest, key_id from api_keys');
    this.addSql('create index key_secrets_key on key_secrets (key_id)');
    this.addSql(`
      alter table api_keys
        drop column digest,
        add column previous_key_prefix text,
        add column previous_until timestamptz,
        add column previous_used_on date,
        add column ip_allow jsonb,
        add column warned_days integer,
        add column tpm integer,
        add column concurrency integer,
        add column priority integer,
        add column max_budget numeric(38,0),
        add column budget_reset text,
        add column subscription_id text,
        add column created_by_member text,
        add column created_by_key text,
        add column suspended boolean not null default false`);
    // Until now there was one end, with its reason beside it.
    this.addSql(`
      update api_keys set
        suspended = revoke_reason = 'organization_suspended',
        status = case revoke_reason when 'organization_suspended' then 'active' else revoke_reason end
      where status = 'revoked'`);
    this.addSql('alter table api_keys drop column revoke_reason, alter column suspended drop default');
    this.addSql('drop index api_keys_organization');
    // The lists: inference keys and management keys of an organization, by id; one project of it; those of an operator.
    this.addSql(`
      create index api_keys_inference on api_keys (organization_id, key_id)
      where kind in ('credit', 'subscription') and status <> 'deleted'`);
    this.addSql(`
      create index api_keys_not_inference on api_keys (organization_id, key_id)
      where kind in ('management', 'operator') and status <> 'deleted'`);
    this.addSql(`
      create index api_keys_project on api_keys (organization_id, project, key_id) where status <> 'deleted'`);
    // What a bulk revoke looks for besides.
    this.addSql(`
      create index api_keys_member on api_keys (organization_id, created_by_member, key_id)
      where created_by_member is not null and status <> 'deleted'`);
    this.addSql(`create index api_keys_tags on api_keys using gin (tags jsonb_path_ops) where status <> 'deleted'`);
    this.addSql(`
      create index api_keys_subscription on api_keys (subscription_id) where subscription_id is not null`);
    // What ends next.
    this.addSql(`
      create index api_keys_expiring on api_keys (expires_at) where status = 'active' and expires_at is not null`);
  }
}
