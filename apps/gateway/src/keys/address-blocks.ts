import { BlockList, isIP } from 'node:net';

export interface AddressBlock {
  readonly address: string;
  /** Leading bits that count. */
  readonly bits: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** IPv4 within IPv6, as a socket that listens on both reports it. */
const MAPPED = /^::ffff:(?=\d+\.)/i;

/** An address or a CIDR block of either family; undefined for what is none. */
export function parseBlock(text: string): AddressBlock | undefined {
  const [address = '', bits, ...rest] = text.replace(MAPPED, '').split('/');
  const version = isIP(address);
  if (version === 0 || address.includes('%') || rest.length > 0) return undefined;
  const longest = version === 4 ? 32 : 128;
  if (bits !== undefined && !(/^(0|[1-9]\d{0,2})$/.test(bits) && Number(bits) <= longest)) return undefined;
  return { address, bits: bits === undefined ? longest : Number(bits), family: version === 4 ? 'ipv4' : 'ipv6' };
}

/** By the list itself: a profile's list is one object for all its keys, and its compiled form goes with it. */
const compiled = new WeakMap<readonly string[], BlockList>();

/** Is the address in one of these? What cannot be read, on either side, is in nothing. */
export function isWithin(list: readonly string[], address: string): boolean {
  let blocks = compiled.get(list);
  if (!blocks) {
    compiled.set(list, (blocks = new BlockList()));
    for (const block of list.map(parseBlock)) if (block) blocks.addSubnet(block.address, block.bits, block.family);
  }
  const plain = address.replace(MAPPED, '');
  const version = isIP(plain);
  return version !== 0 && blocks.check(plain, version === 4 ? 'ipv4' : 'ipv6');
}
