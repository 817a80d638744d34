import { BlockList, isIP } from 'node:net';

/**
 * Which hosts a worker may stand on. A heartbeat names a URL that this process will send prompts and secrets to, so a
 * URL counts only when its host is listed: an exact name, a name under a listed `.suffix`, or an address in a CIDR.
 * A listed name is trusted whatever it resolves to; an unlisted one is never resolved.
 */
export class AllowList {
  private readonly names = new Set<string>();
  private readonly suffixes: string[] = [];
  private readonly addresses = new BlockList();

  /** @throws Error naming the entry that is neither a name nor a CIDR */
  constructor(entries: readonly string[]) {
    for (const entry of entries) this.add(entry.trim().toLowerCase());
  }

  /** The URL in its one form, without a trailing slash; undefined when it is not a plain http(s) URL on a listed host. */
  accept(text: string): string | undefined {
    const url = URL.parse(text);
    if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined;
    if (url.username || url.password || url.search || url.hash) return undefined;
    // URL has already brought `0x7f.1` and the like into dotted form, so that no spelling slips past the list.
    if (!this.lists(url.hostname.replace(/^\[|\]$/g, ''))) return undefined;
    return url.href.replace(/\/+$/, '');
  }

  private lists(host: string): boolean {
    const family = isIP(host);
    if (family !== 0) return this.addresses.check(host, family === 4 ? 'ipv4' : 'ipv6');
    return this.names.has(host) || this.suffixes.some((suffix) => host.endsWith(suffix) && host.length > suffix.length);
  }

  private add(entry: string): void {
    const [address = '', bits] = entry.split('/');
    const family = isIP(address);
    if (family !== 0) {
      const width = family === 4 ? 32 : 128;
      const prefix = bits === undefined ? width : Number(bits);
      if (!/^\d+$/.test(bits ?? '0') || prefix > width) throw new Error(`not a CIDR: ${entry}`);
      this.addresses.addSubnet(address, prefix, family === 4 ? 'ipv4' : 'ipv6');
    } else if (/^\.[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(entry)) this.suffixes.push(entry);
    else if (/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(entry)) this.names.add(entry);
    else throw new Error(`neither a host name nor a CIDR: ${entry}`);
  }
}
