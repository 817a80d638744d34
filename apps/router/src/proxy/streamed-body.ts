import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';

/** A body that passes through as it comes: once a byte of it was asked for there is no second attempt. */
export class StreamedBody {
  /** A worker was given bytes of it. */
  begun = false;

  constructor(private readonly source: IncomingMessage) {}

  /** For one attempt, no faster than it takes them. Nothing is touched before it asks for the first. */
  bytes(): Readable {
    return Readable.from(this.passing(), { objectMode: false });
  }

  private async *passing(): AsyncGenerator<Buffer, void> {
    this.begun = true;
    try {
      // Whoever stops reading has an answer to give on this connection.
      for await (const chunk of this.source.iterator({ destroyOnReturn: false })) yield chunk as Buffer;
    } finally {
      // What nobody wants any more is thrown away: a connection that is not read does not notice its end.
      this.source.resume();
    }
  }
}
