const PUB_ACK = '"stream":"KEYFEED"';

/** Cuts what a NATS server sends to one client into its lines and messages, whatever pieces it comes in. */
export class NatsMessages {
  private rest: Buffer = Buffer.alloc(0);

  /** @returns whole lines and messages; `delivery` are those of subscriptions, but for acknowledgements of publishes to the feed */
  push(bytes: Buffer): { readonly bytes: Buffer; readonly delivery: boolean }[] {
    this.rest = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    const whole: { bytes: Buffer; delivery: boolean }[] = [];
    for (let line; (line = this.rest.indexOf('\r\n')) >= 0;) {
      const words = this.rest.toString('latin1', 0, line).split(' ');
      const message = words[0] === 'MSG' || words[0] === 'HMSG';
      const end = line + 2 + (message ? Number(words.at(-1)) + 2 : 0);
      if (this.rest.length < end) break;
      const one = this.rest.subarray(0, end);
      whole.push({ bytes: one, delivery: message && !one.includes(PUB_ACK) });
      this.rest = this.rest.subarray(end);
    }
    return whole;
  }
}
