import type { Actor } from '@sluice/contracts/actor';
import type { AuditedCommand } from '@sluice/contracts/audit';
import { ERRORS, Rejected } from '@sluice/contracts/errors';
import type { Operation } from '@sluice/contracts/operations';
import { loggerFor, type ServiceClient } from '@sluice/service-kit';

const MAX_TARGET = 512;

/** Commands that another service than auth carries out: auth's audit has them before they are forwarded. */
export class AuditClient {
  private readonly log = loggerFor('audit');

  constructor(private readonly auth: ServiceClient) {}

  /** auth's own commands are audited as events, in their transaction; what takes no credential is nobody's command. */
  takes({ owner, method, permission }: Operation): boolean {
    return owner !== 'auth' && method !== 'GET' && permission !== 'anonymous';
  }

  /**
   * Comes back when the command is recorded: with the fields of its body that the operation names, no others.
   * @throws Rejected `unavailable` when it can't be recorded; `request_too_large`, `invalid_request` for its fields
   */
  async command(actor: Actor, operation: Operation, path: string, body: Buffer | undefined): Promise<void> {
    try {
      await this.tell(actor, { ...what(operation, path), fields: audited(operation, body) });
    } catch (cause) {
      if (cause instanceof Rejected && ERRORS[cause.code].status < 500) throw cause;
      const sentence = 'The command could not be recorded in the audit, so it was not carried out.';
      throw new Rejected('unavailable', sentence, { retryAfter: 1, cause });
    }
  }

  /** A second entry with the status of the answer, as far as it can be had: a command without one may have been done. */
  outcome(actor: Actor, operation: Operation, path: string, status: number): void {
    this.tell(actor, { ...what(operation, path), fields: {}, status }).catch((err: unknown) =>
      this.log.warn({ err, requestId: actor.requestId, status }, 'the outcome of a command is not in the audit'),
    );
  }

  private tell(actor: Actor, body: AuditedCommand): Promise<void> {
    return this.auth.tell({ method: 'POST', path: '/internal/audit', actor, body });
  }
}

const what = (operation: Operation, path: string) => ({
  action: `${operation.method} ${operation.path}`,
  target: path.slice(0, MAX_TARGET),
});

function audited({ audited: names = [] }: Operation, body: Buffer | undefined): Record<string, unknown> {
  const fields = parsed(body);
  return Object.fromEntries(names.filter((name) => Object.hasOwn(fields, name)).map((name) => [name, fields[name]]));
}

/** What is no JSON object has no fields: its owner refuses it. */
function parsed(body: Buffer | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body?.toString('utf8') ?? '');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
