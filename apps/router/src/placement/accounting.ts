import { assert } from '@sluice/primitives/assert';

/** What this router has running on each worker: booked at the decision, given back when the attempt has ended. */
export class Accounting {
  private readonly counts = new Map<string, number>();

  inFlight(id: string): number {
    return this.counts.get(id) ?? 0;
  }

  /** @returns gives the booking back; a second call does nothing */
  book(id: string): () => void {
    this.counts.set(id, this.inFlight(id) + 1);
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      const left = this.inFlight(id) - 1;
      assert(left >= 0, 'more bookings given back than made');
      if (left === 0) this.counts.delete(id);
      else this.counts.set(id, left);
    };
  }

  /** How many workers have anything in flight. */
  get busy(): number {
    return this.counts.size;
  }
}
