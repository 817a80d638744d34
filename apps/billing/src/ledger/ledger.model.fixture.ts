/** Credit of one organization as it is promised, in the plainest words; pico-USD, times in ms since the Unix epoch. */
export class Credit {
  /** In the order in which they came. */
  readonly lots: { readonly id: string; readonly amount: bigint; left: bigint; readonly expiresAt: number }[] = [];
  readonly requests = new Map<number, { rank: number; cost: bigint; charged: bigint }>();
  readonly balances: Record<string, bigint> = {};

  spendable(now: number): bigint {
    return this.lots.reduce((sum, lot) => (lot.expiresAt > now ? sum + lot.left : sum), 0n);
  }

  came(id: string, amount: bigint, expiresAt: number, from: string): void {
    this.lots.push({ id, amount, left: amount, expiresAt });
    this.book(from, 'available', amount);
  }

  /** From the named lot first, then from what expires first. */
  went(to: string, amount: bigint, now: number, named?: string): void {
    const order = this.lots.toSorted((a, b) => a.expiresAt - b.expiresAt).filter((lot) => lot.expiresAt > now);
    const first = this.lots.filter((lot) => lot.id === named);
    let open = amount;
    for (const lot of [...first, ...order]) {
      const step = lot.left < open ? lot.left : open;
      lot.left -= step;
      open -= step;
    }
    if (open !== 0n) throw new Error(`the model spends ${open} that nobody has`);
    this.book('available', to, amount);
  }

  /** What was charged is given back where it was taken last. */
  returned(amount: bigint): void {
    let open = amount;
    for (const lot of this.lots.toSorted((a, b) => a.expiresAt - b.expiresAt).toReversed()) {
      const room = lot.amount - lot.left;
      const step = room < open ? room : open;
      lot.left += step;
      open -= step;
    }
    this.book('revenue:usage', 'available', amount);
  }

  /** A record of a request: the better one counts, and what nobody could pay for stays unpaid. */
  used(request: number, rank: number, cost: bigint, now: number): void {
    const known = this.requests.get(request);
    if (known && known.rank >= rank) return;
    const { cost: before, charged: paid } = known ?? { cost: 0n, charged: 0n };
    const there = this.spendable(now);
    const more = cost - before;
    const charged = more > 0n ? paid + (more < there ? more : there) : cost < paid ? cost : paid;
    if (charged > paid) this.went('revenue:usage', charged - paid, now);
    if (charged < paid) this.returned(paid - charged);
    this.book('absorbed:overrun', 'revenue:usage', cost - charged - (before - paid));
    this.requests.set(request, { rank, cost, charged });
  }

  expired(now: number): void {
    for (const lot of this.lots) {
      if (lot.expiresAt > now) continue;
      this.book('available', 'expired', lot.left);
      lot.left = 0n;
    }
  }

  private book(from: string, to: string, amount: bigint): void {
    this.balances[from] = (this.balances[from] ?? 0n) - amount;
    this.balances[to] = (this.balances[to] ?? 0n) + amount;
  }
}
