import { MAX_COUNTED_MODEL, OTHER_MODELS, type RefusalCount } from '@sluice/contracts/refusals';
import { rfc3339 } from '@sluice/primitives/clock';

const MINUTE_MS = 60_000;
/** Models of a key that are counted one by one in a minute: clients write there what they like. */
const MODELS_PER_KEY = 16;
/** What is counted apart, and not told yet: about 3 MB. */
const MOST = 10_000;
/** While nobody takes them: older minutes are forgotten. */
const KEPT_MINUTES = 60;

export type Counted = Pick<RefusalCount, 'organizationId' | 'project' | 'keyId' | 'model' | 'code'>;

interface Entry {
  readonly counted: Counted;
  /** Milliseconds since the Unix epoch. */
  readonly minute: number;
  count: number;
  /** As far as the broker has it. */
  told: number;
}

/**
 * What this process refused, by minute, key, model and code: bounded, whatever comes, and whoever asks for whatever. What is
 * too much is counted with less detail; its sum is always right. Pure: the time is given.
 */
export class RefusalCounts {
  private readonly entries = new Map<string, Entry>();
  private readonly modelsOf = new Map<string, Set<string>>();
  private minute = 0;

  /** Kept tuples. */
  get size(): number {
    return this.entries.size;
  }

  /** @param now wall clock, milliseconds */
  add(refusal: Counted, now: number): void {
    this.turnTo(now);
    const entry = this.entryOf(this.bounded(refusal)) ?? this.entryOf(nobodys(refusal.code), Infinity)!;
    entry.count += 1;
  }

  /** At most `most` of those that have changed since they were told. @returns what to send, and what to call when it was taken */
  changed(most: number): { readonly counts: RefusalCount[]; readonly taken: () => void } {
    const sent: [Entry, number][] = [];
    for (const entry of this.entries.values()) {
      if (entry.count > entry.told) sent.push([entry, entry.count]);
      if (sent.length === most) break;
    }
    const counts = sent.map(([{ counted, minute }, count]) => ({ ...counted, count, minute: rfc3339(minute) }));
    const taken = () => {
      for (const [entry, count] of sent) entry.told = Math.max(entry.told, count);
    };
    return { counts, taken };
  }

  /** Forgets minutes that are over and told, and those that nobody took for too long. @returns refusals forgotten untold */
  forget(now: number): number {
    this.turnTo(now);
    let lost = 0;
    for (const [key, { minute, count, told }] of this.entries) {
      const old = minute <= this.minute - KEPT_MINUTES * MINUTE_MS;
      if (minute === this.minute || (count > told && !old)) continue;
      lost += count - told;
      this.entries.delete(key);
    }
    return lost;
  }

  /** A clock that is set back opens no minute again: its counts are told and forgotten, and would begin at 1. */
  private turnTo(now: number): void {
    const minute = now - (now % MINUTE_MS);
    if (minute <= this.minute) return;
    this.minute = minute;
    this.modelsOf.clear();
  }

  private bounded(refusal: Counted): Counted {
    // Cut in the middle of a character it would not be text any more.
    const model = refusal.model.slice(0, MAX_COUNTED_MODEL).toWellFormed();
    const known = this.modelsOf.get(refusal.keyId) ?? new Set();
    if (!known.has(model) && known.size >= MODELS_PER_KEY) return { ...refusal, model: OTHER_MODELS };
    // No more keys than tuples: those that come too late for one have no room for a model either.
    if (this.entries.size < MOST) this.modelsOf.set(refusal.keyId, known.add(model));
    return { ...refusal, model };
  }

  private entryOf(counted: Counted, most = MOST): Entry | undefined {
    const { organizationId, project, keyId, model, code } = counted;
    const key = `${this.minute} ${organizationId} ${project} ${keyId} ${code} ${model}`;
    const known = this.entries.get(key);
    if (known || this.entries.size >= most) return known;
    const entry = { counted, minute: this.minute, count: 0, told: 0 };
    this.entries.set(key, entry);
    return entry;
  }
}

/** Where there is no room left to say whose they were. As many as there are codes, in each minute that is kept. */
const nobodys = (code: string): Counted => ({ organizationId: '', project: '', keyId: '', model: OTHER_MODELS, code });
