import { z } from 'zod';

const milliseconds = z.int().min(1).max(3_600_000);
const tokens = z.int().min(0).max(10_000_000);

/** What goes wrong on purpose. Absent = does not. Several may be set; they are tried in the order below. */
export const faultsSchema = z.strictObject({
  /** Answer with this status and an error body, generate nothing. */
  errorStatus: z.int().min(400).max(599).optional(),
  /** Accept the request and send nothing, not even headers, for this long. */
  stallBeforeFirstByteMs: milliseconds.optional(),
  /** After so many bytes of an uploaded file nothing more of it is read for this long. For whatever model. */
  stallUpload: z.strictObject({ afterBytes: z.int().min(0), ms: milliseconds }).optional(),
  /** After so many tokens neither generate nor send for this long. */
  stallMidStream: z.strictObject({ afterTokens: tokens, ms: milliseconds }).optional(),
  /** After so many tokens cut the connection (0: after the headers of a stream). */
  dieAfterTokens: tokens.optional(),
  /** After so many tokens the whole process ends without a word, as in a crash. */
  exitAfterTokens: tokens.optional(),
  /** Leave `usage` out of answers and streams, as a worker that ignores `stream_options` does. */
  omitUsage: z.boolean().optional(),
  /** Only requests for this model. */
  model: z.string().optional(),
  /** Only the next so many requests; then the faults clear themselves. Absent = until changed. */
  requests: z.int().min(1).max(1_000_000).optional(),
});
export type Faults = z.infer<typeof faultsSchema>;

export const NO_FAULTS: Faults = {};

/** The faults in force and how many requests they still meet. */
export class FaultSwitch {
  private current: Faults;

  constructor(initial: Faults) {
    this.current = initial;
  }

  get(): Faults {
    return this.current;
  }

  set(faults: Faults): void {
    this.current = faults;
  }

  /** The faults that a request for `model` meets; counts it. */
  take(model: string): Faults {
    const { model: only, requests, ...faults } = this.current;
    if (only !== undefined && only !== model) return NO_FAULTS;
    if (requests !== undefined) this.current = requests > 1 ? { ...this.current, requests: requests - 1 } : NO_FAULTS;
    return faults;
  }
}
