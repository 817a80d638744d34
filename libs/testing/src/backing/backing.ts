/** The three servers Sluice stands on. */
export const SERVERS = ['postgres', 'nats', 'redis'] as const;
export type ServerName = (typeof SERVERS)[number];

/** Where servers come from: containers, private processes, or somebody else's, named by URLs in the environment. */
export type BackingKind = 'docker' | 'local' | 'env';

/** One running server. `stop` and `kill` followed by `start` bring it back on the same port with the data it had written. */
export interface Server {
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Clean stop: PostgreSQL ends its sessions, Redis writes its data set. Nothing happens when it is stopped already. */
  stop(): Promise<void>;
  /** The same server again; resolves when it answers. Nothing happens when it runs. */
  start(): Promise<void>;
  /** SIGKILL: what a crash leaves. Redis loses what it had only in memory. */
  kill(): Promise<void>;
}

export interface PostgresServer extends Server {
  /** Of the superuser, database `postgres`. */
  readonly url: string;
  readonly user: string;
  readonly password: string;
}

export interface NatsServer extends Server {
  /** With the generated user's name and password in it, unless a `natsConfig` was given: then its users are the caller's business. */
  readonly url: string;
  /** Base of `/healthz`, `/jsz` and friends; undefined where the server came from the environment without it. */
  readonly monitorUrl: string | undefined;
}

export interface Servers {
  readonly postgres: PostgresServer;
  readonly nats: NatsServer;
  readonly redis: Server;
}

export type Backing<Need extends ServerName = ServerName> = Pick<Servers, Need> & {
  readonly kind: BackingKind;
  /** One sentence for people: which kind this is, and why. */
  readonly reason: string;
  /** Stops every server that is ours. Data stays where `keep` was asked for; otherwise it goes. */
  stop(): Promise<void>;
};

export interface BackingOptions<Need extends ServerName = ServerName> {
  /** Folder for data, configuration, logs (`<dir>/logs/<server>.log`) and secrets (0600). One running backing per folder. */
  readonly dir: string;
  readonly need: readonly Need[];
  /** What to try first: private processes (data in `dir`) or containers. Default `docker`, as the tests want it. */
  readonly prefer?: 'docker' | 'local';
  /** Data outlives `stop()` and PostgreSQL syncs to disk. Default false: the tests' throw-away servers. */
  readonly keep?: boolean;
  /** A nats-server configuration file added to the generated one; it brings its own accounts and users. */
  readonly natsConfig?: string;
  /** Fixed ports; free ones on loopback where not given. */
  readonly ports?: Partial<Record<ServerName | 'natsMonitor', number>>;
  /** Told each step that takes time, and why a way was not taken. */
  readonly onProgress?: (line: string) => void;
  /** Default `process.env`. Without the SLUICE_*_URL names in it, the servers are this caller's alone. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** No way to get the servers on this machine; the message says what was tried and what to install. */
export class BackingUnavailable extends Error {
  override readonly name = 'BackingUnavailable';
}
