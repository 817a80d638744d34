/**
 * How much this process takes on at once. Bodies are kept for a retry, so their bytes are what memory is spent on; the
 * count bounds sockets. Beyond either bound a request is refused at once instead of making all of them slow.
 */
export class Admission {
  private requests = 0;
  private bytes = 0;

  constructor(
    private readonly maxRequests: number,
    private readonly maxBytes: number,
  ) {}

  get inside(): number {
    return this.requests;
  }

  /** @returns leaves again, once; undefined = full */
  enter(bytes: number): (() => void) | undefined {
    if (this.requests >= this.maxRequests || this.bytes + bytes > this.maxBytes) return undefined;
    this.requests++;
    this.bytes += bytes;
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      this.requests--;
      this.bytes -= bytes;
    };
  }
}
