import { Rejected } from '@sluice/contracts/errors';
import { systemClock } from '@sluice/primitives/clock';
import { gauge } from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { InferenceRequest } from '../inference/inference-request.js';
import { TranscriptionReading } from './transcription-reading.js';
import { Holds, Upload, type HoldLimits } from './upload.service.js';

/** Forms with files, from their first byte to what has to be known before they are sent on. */
export class Uploads {
  private readonly holds: Holds;

  constructor(
    private readonly maxBytes: number,
    holds: HoldLimits,
  ) {
    this.holds = new Holds(holds);
    gauge('gateway_uploads_held_bytes', 'Bytes of files whose model has not come yet', () => this.holds.held);
  }

  /**
   * @param deadline monotonic milliseconds
   * @throws Rejected `unsupported_media_type`, `invalid_request`, `request_too_large`, `unavailable`, `timeout`
   */
  async read(
    request: FastifyRequest,
    reply: FastifyReply,
    modelKnown: boolean,
    deadline: number,
  ): Promise<InferenceRequest> {
    const upload = new Upload(request.raw, this.maxBytes, this.holds);
    // Its end is that of the answer, whatever becomes of it.
    reply.raw.once('close', () => upload.leave());
    const late = Promise.withResolvers<never>();
    late.promise.catch(() => {});
    const timer = setTimeout(
      () => late.reject(new Rejected('timeout', 'The form did not come in time.')),
      Math.max(0, deadline - systemClock.monotonic()),
    );
    try {
      await upload.readHead(modelKnown, late.promise);
    } finally {
      clearTimeout(timer);
    }
    return {
      model: upload.model ?? '',
      stream: upload.stream,
      wantsUsage: false,
      wantsContinuousUsage: false,
      body: {},
      upload,
      reading: new TranscriptionReading(upload.meter),
    };
  }
}
