/** Who and what caused an event; stored beside it. No secrets, no personal data. */
export interface EventMetadata {
  /** The credential, service or process that asked: `mk:<keyId>`, `service:billing`, `system:expiry`. */
  readonly actor: string;
  readonly requestId?: string;
  /** The same for everything that follows from one request. */
  readonly correlationId: string;
  /** Id of the event or message that this follows from. */
  readonly causationId?: string;
  /** W3C trace context. */
  readonly traceparent?: string;
  /** Network address of the caller: personal data, so it is there for inline projections and never stored with the event. */
  readonly address?: string;
}
