import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Actor } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import { systemId, uuidv7 } from '@sluice/primitives/id';
import type { ServiceCall, ServiceClient } from '@sluice/service-kit';
import { Explanations } from './explanations.service.js';

const ACTOR = { organizationId: 'o1', project: 'p1' } as Actor;
const METERED = {
  id: 'r',
  outcome: 'ok',
  inputTokens: 7,
  totalTokens: 9,
  cost: '0.04',
  currency: 'USD',
  keyId: 'k1',
};
const BOOKED = { cost: '0.05', charged: '0.03', absorbed: '0.02', transactions: [{ id: 't1' }] };
const CHARGE = { result: 'ok', inputTokens: 7, currency: 'USD', keyId: 'k1', ...BOOKED };

type Service = 'auth' | 'metering' | 'billing';
let answers: Record<Service, () => object>;
let asked: string[];
let explanations: Explanations;

const unknown = () => {
  throw new Rejected('not_found');
};
beforeEach(() => {
  asked = [];
  answers = { auth: unknown, metering: () => METERED, billing: () => BOOKED };
  const client = (service: Service) => {
    const ask = async ({ path, actor, timeoutMs }: ServiceCall) => {
      asked.push(`${service} ${path}`);
      expect([actor, timeoutMs]).toEqual([ACTOR, 1_000]);
      return answers[service]();
    };
    return { ask } as unknown as ServiceClient;
  };
  explanations = new Explanations({ auth: client('auth'), metering: client('metering'), billing: client('billing') });
});

const refusal = (id: string) =>
  explanations.find(ACTOR, id).then(
    () => undefined,
    ({ code, message, retryAfter }: Rejected) => ({ code, message, retryAfter }),
  );

describe('GET /api/explain/:requestId', () => {
  it('says how a request was charged: by the ledger, and for any id that names it', async () => {
    const requestId = systemId();
    const expected = { requestId, outcome: 'charged', ...CHARGE };
    expect(await explanations.find(ACTOR, requestId)).toEqual(expected);
    expect(await explanations.find(ACTOR, `chatcmpl-${requestId}.1`)).toEqual(expected);
    const calls = ['auth /internal/refusals', 'metering /internal/usage/records', 'billing /internal/charges'];
    expect(asked.slice(0, 3)).toEqual(calls.map((call) => `${call}/${requestId}`));
  });

  it('does not call charged what is not booked yet', async () => {
    answers.billing = unknown;
    const money = { cost: '0.04', charged: null, absorbed: null, transactions: [] };
    expect(await explanations.find(ACTOR, systemId())).toMatchObject({ outcome: 'metered', ...money });
  });

  it('says why a request was refused, with its charge where it had been admitted', async () => {
    answers.auth = () => ({ requestId: 'r', code: 'worker_error' });
    const expected = { requestId: 'r', code: 'worker_error', outcome: 'refused' };
    expect(await explanations.find(ACTOR, systemId())).toEqual({ ...expected, charge: CHARGE });
    answers.metering = unknown;
    expect(await explanations.find(ACTOR, systemId())).toEqual({ ...expected, charge: null });
  });

  it('tells nothing of money where metering, which knows the project, does not know the request', async () => {
    answers.metering = unknown;
    expect(await refusal(systemId())).toMatchObject({ code: 'not_found' });
    expect(asked.filter((call) => call.startsWith('billing'))).toEqual([]);
  });

  it('404: says to come again for a request that may still be on its way, and not for an old one', async () => {
    answers.metering = unknown;
    expect(await refusal(systemId())).toMatchObject({ code: 'not_found', retryAfter: 1 });
    const old = uuidv7(Date.now() - 86_400_000, new Uint8Array(10));
    expect(await refusal(old)).toMatchObject({ code: 'not_found', retryAfter: undefined });
  });

  it('404: asks nobody for what is no id of a request', async () => {
    expect(await refusal('..%2Fsettled')).toMatchObject({ code: 'not_found' });
    expect(asked).toEqual([]);
  });

  it.each(['auth', 'metering', 'billing'] as const)(
    '503: %s away is named, and no half of an answer',
    async (service) => {
      for (const code of ['unavailable', 'internal_error'] as const) {
        answers[service] = () => {
          throw new Rejected(code);
        };
        const expected = { code: 'unavailable', message: `${service} does not answer.`, retryAfter: 1 };
        expect(await refusal(systemId())).toEqual(expected);
      }
    },
  );
});
