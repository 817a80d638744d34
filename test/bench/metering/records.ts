// Usage records as gateways send them, made up.
import { usageBatchId } from '@sluice/contracts/gateway';
import { systemId } from '@sluice/primitives/id';

export const MODELS = ['small-1', 'medium-2', 'large-3'] as const;
const PRICES = '{"input":"150000","cachedInput":"75000","output":"600000"}';
const OUTCOMES = ['ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'aborted', 'error'] as const;

export interface Owner {
  readonly organizationId: string;
  readonly keyId: string;
}

/** What all records that were made come to, each once. */
export interface Sums {
  records: number;
  inputTokens: number;
  cachedInputTokens: number;
  outputTokens: number;
}

export interface MadeBatch {
  readonly id: string;
  readonly subject: number;
  readonly payload: string;
}

/** One gateway's boot, with a journal that is made up as it is asked for. */
export class Boot {
  readonly name = systemId();
  private seq = 0;

  /** The next records of this boot, which ended just now. */
  batch(owners: readonly Owner[], sums: Sums): MadeBatch {
    const from = this.seq;
    const records = owners.map((owner) => this.record(owner, sums));
    const batch = { boot: this.name, from, to: this.seq - 1 };
    const payload = `{"boot":"${batch.boot}","from":${from},"to":${batch.to},"records":[${records.join(',')}]}`;
    return { id: usageBatchId(batch), subject: from, payload };
  }

  private record({ organizationId, keyId }: Owner, sums: Sums): string {
    const seq = this.seq++;
    const now = Date.now();
    const input = 200 + ((seq * 37) % 4_000);
    const cached = seq % 3 === 0 ? 128 : 0;
    const output = 20 + ((seq * 53) % 900);
    sums.records += 1;
    sums.inputTokens += input;
    sums.cachedInputTokens += cached;
    sums.outputTokens += output;
    const took = 80 + output * 7;
    return (
      `{"requestId":"${systemId()}","attempt":1,"seq":${seq},"organizationId":"${organizationId}","project":"default",` +
      `"workload":"${MODELS[seq % 3]}","keyId":"${keyId}","model":"${MODELS[seq % 3]}","endpoint":"/v1/chat/completions",` +
      `"stream":true,"outcome":"${OUTCOMES[seq % 10]}","rank":4,"estimated":false,"inputTokens":"${input}",` +
      `"cachedInputTokens":"${cached}","outputTokens":"${output}","priceVersion":"v1","prices":${PRICES},` +
      `"worker":"worker-${seq % 8}","startedAt":"${new Date(now - took).toISOString()}",` +
      `"endedAt":"${new Date(now).toISOString()}","ttftMs":${60 + (seq % 200)}}`
    );
  }
}
