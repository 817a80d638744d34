import { Migration } from '@mikro-orm/migrations';

/** A setting of organizations that were there before it, at what it is for new ones. */
export class UsageSpikeFactor extends Migration {
  override async up(): Promise<void> {
    this.addSql(`update organizations set settings = '{"usageSpikeFactor": 5}' || settings`);
  }
}
