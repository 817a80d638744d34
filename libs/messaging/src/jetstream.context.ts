import { BaseRpcContext } from '@nestjs/microservices';

export interface Delivery {
  readonly subject: string;
  readonly stream: string;
  readonly durable: string;
  /** Sequence in the stream. */
  readonly sequence: number;
  /** 1 = the first time. */
  readonly deliveries: number;
  /** `Nats-Msg-Id`, or stream and sequence where the publisher gave none: the key for an inbox. */
  readonly messageId: string;
  /** When the stream took it. */
  readonly storedAt: Date;
  readonly headers: Readonly<Record<string, readonly string[]>>;
  /** Of a dead letter that came again: which sending it was. All else, but for `deliveries`, is of the original message. */
  readonly redrive?: string;
}

/** What a handler gets with `@Ctx()`. */
export class JetStreamContext extends BaseRpcContext<[Delivery]> {
  constructor(delivery: Delivery) {
    super([delivery]);
  }

  get delivery(): Delivery {
    return this.args[0];
  }
}
