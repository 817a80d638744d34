import { describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { auditedCommandSchema } from '@sluice/contracts/audit';
import { Rejected } from '@sluice/contracts/errors';
import { OPERATIONS, type Operation } from '@sluice/contracts/operations';
import type { ServiceCall, ServiceClient } from '@sluice/service-kit';
import { AuditClient } from './audit.client.js';

const actor = { kind: 'operator', keyId: 'op', organizationId: null } as Actor;
const operation = (method: string, path: string): Operation =>
  OPERATIONS.find((one) => one.method === method && one.path === path)!;
const credits = operation('POST', '/api/operator/credits');

function audit(answer: () => void = () => {}) {
  const told: ServiceCall[] = [];
  const tell = async (call: ServiceCall) => {
    told.push(call);
    answer();
  };
  return { told, client: new AuditClient({ tell } as unknown as ServiceClient) };
}
const throwing = (error: Error) => () => {
  throw error;
};
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

describe('the audit of commands that others carry out', () => {
  it('takes each that changes something, is not auth’s own, and takes a credential', () => {
    const { client } = audit();
    expect(client.takes(credits)).toBe(true);
    expect(client.takes(operation('GET', '/api/operator/prices'))).toBe(false);
    expect(client.takes(operation('POST', '/api/keys/credit'))).toBe(false);
    expect(client.takes(operation('POST', '/api/billing/webhooks/stripe'))).toBe(false);
    const unnamed = OPERATIONS.filter((one) => client.takes(one) && one.owner !== 'not-yet' && !one.audited);
    expect(unnamed).toEqual([]);
  });

  it('keeps the fields of the body that the operation names, in the name of the actor, and no others', async () => {
    const { told, client } = audit();
    const body = json({ organizationId: 'o1', amount: '10', secret: 's', ['__proto__']: { reason: 'x' } });
    await client.command(actor, credits, '/api/operator/credits', body);
    expect(told).toEqual([
      {
        method: 'POST',
        path: '/internal/audit',
        actor,
        body: {
          action: 'POST /api/operator/credits',
          target: '/api/operator/credits',
          fields: { organizationId: 'o1', amount: '10' },
        },
      },
    ]);
  });

  it('has no fields of a body that is none: its owner refuses it', async () => {
    for (const body of [undefined, Buffer.from('{'), json(null), json('x'), json([1])]) {
      const { told, client } = audit();
      await client.command(actor, credits, `/${'x'.repeat(2_000)}`, body);
      expect(auditedCommandSchema.parse(told[0]!.body).fields).toEqual({});
    }
  });

  it('lets nothing through that is not recorded: 503 when auth can’t, its refusal when it won’t', async () => {
    const command = (error: Error) =>
      audit(throwing(error)).client.command(actor, credits, '/api/operator/credits', json({}));
    await expect(command(new Rejected('internal_error'))).rejects.toMatchObject({ code: 'unavailable' });
    await expect(command(new Error('socket'))).rejects.toMatchObject({ code: 'unavailable', retryAfter: 1 });
    await expect(command(new Rejected('request_too_large'))).rejects.toMatchObject({ code: 'request_too_large' });
  });

  it('adds the outcome, and does without it when it can’t be had', async () => {
    const { told, client } = audit(throwing(new Rejected('unavailable')));
    client.outcome(actor, credits, '/api/operator/credits', 201);
    await Promise.resolve();
    expect(told[0]!.body).toMatchObject({ status: 201, fields: {} });
  });
});
