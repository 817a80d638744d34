import { readFileSync } from 'node:fs';
import { NATS_USER } from './secrets.js';

/** What both kinds run PostgreSQL with; throw-away data need not survive the machine. */
export const postgresSettings = (keep: boolean): string[] =>
  [
    'max_connections=300',
    'timezone=UTC',
    'log_timezone=UTC',
    ...(keep ? [] : ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off']),
  ].flatMap((setting) => ['-c', setting]);

/** The same collation and encoding from either kind: byte order, UTF-8. */
export const INITDB_OPTIONS = ['--encoding=UTF8', '--no-locale', '--auth=scram-sha-256'];

export interface NatsConfig {
  readonly listen: string;
  readonly monitor: string;
  readonly storeDir: string;
  readonly password: string;
  /** Path of a configuration file that follows the generated part and brings its own users. */
  readonly more: string | undefined;
}

/** A limit of its own, as the server's is a part of the free disk, and the streams of the contracts reserve 22 GiB. */
export const natsConfig = ({ listen, monitor, storeDir, password, more }: NatsConfig): string => `
server_name: sluice
listen: "${listen}"
http: "${monitor}"
jetstream { store_dir: "${storeDir}", max_file_store: 1TB }
${more === undefined ? `authorization { user: ${NATS_USER}, password: "${password}" }` : readFileSync(more, 'utf8')}
`;

/** A clean stop writes the data set; there is no append-only file, as what is in here may be lost in a crash. */
export const redisConfig = (bind: string, port: number, folder: string, password: string): string => `
bind ${bind}
port ${port}
dir ${folder}
requirepass ${password}
appendonly no
save ""
shutdown-on-sigterm save
shutdown-on-sigint save
`;
