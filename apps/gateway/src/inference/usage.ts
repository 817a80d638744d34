import type { TokenUsage } from '@sluice/contracts/worker-usage';
import type { AudioLength } from '../audio/audio-length.js';

/** What a worker says was used, or what was found out in its stead. */
export interface ReportedUsage extends TokenUsage {
  /** Of the sound that was transcribed, where there was one. */
  readonly audio?: AudioLength;
}
