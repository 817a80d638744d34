import type { ReportedUsage } from './usage.js';

/** The way back, for an endpoint whose dialect no worker speaks: it was asked at another one. What throws is a SyntaxError. */
export interface Translation {
  whole(answer: unknown, requestId: string): object;
  stream(requestId: string): StreamTranslation;
}

export interface StreamTranslation {
  /** @param event one whole event of the worker @returns text for the client, maybe empty */
  push(event: Buffer, usage: ReportedUsage | undefined): string;
  /** What ends the stream: sent when its END is on the disk. */
  end(usage: ReportedUsage | undefined): string;
}
