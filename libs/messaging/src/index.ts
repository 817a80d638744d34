export { deadLetterOf, errorName, Poison, type DeadLetter } from './dead-letter.js';
export { deadLetterCounts, DeadLetters, type StoredDeadLetter, type WaitingDeadLetters } from './dead-letters.js';
export {
  HandlerTimeout,
  type ConsumerBinding,
  type EventBinding,
  type HandledMessage,
  type Outcome,
} from './durable-consumer.js';
export { JetStreamContext, type Delivery } from './jetstream.context.js';
export { connectConsumers, JetStreamStrategy, type JetStreamStrategyOptions } from './jetstream.strategy.js';
export { NotConnected, TooManyInFlight, type MessagingStatus } from './link.js';
export {
  connect,
  Messaging,
  type CoreMessage,
  type CoreSubscription,
  type MessagingOptions,
  type PublishAck,
  type PublishOptions,
} from './messaging.js';
export {
  OrderedConsumer,
  type FeedMessage,
  type FeedReset,
  type LossReason,
  type OrderedConsumerOptions,
} from './ordered-consumer.js';
export { StreamMismatch, type ProvisionOptions } from './provision.js';
