export interface ServerAddress {
  /** `host:port`, one or more. */
  readonly servers: readonly string[];
  readonly user?: string;
  readonly password?: string;
}

/** Reads `nats://user:password@host:port[,host:port…]`; the client library does not take credentials from a URL. */
export function parseServerAddress(url: string): ServerAddress {
  const [first = '', ...others] = url.split(',').map((part) => part.trim());
  // The error of `new URL` carries its input, password and all.
  const parsed = URL.parse(first.includes('://') ? first : `nats://${first}`);
  if (!parsed || !/^(nats|tls):$/.test(parsed.protocol) || parsed.hostname === '') {
    throw new Error('not the URL of a NATS server');
  }
  const servers = [parsed.host, ...others.map((part) => part.replace(/^\w+:\/\//, '').replace(/^.*@/, ''))];
  return {
    servers,
    ...(parsed.username === '' ? {} : { user: decodeURIComponent(parsed.username) }),
    ...(parsed.password === '' ? {} : { password: decodeURIComponent(parsed.password) }),
  };
}
