import type { RevokeReason } from '@sluice/contracts/auth';
import { Rejected } from '@sluice/contracts/errors';
import type { Decider } from '@sluice/event-sourcing';
import { evolve, type IssuedKey, type KeyEvent, type KeyState } from './key.js';

export type KeyCommand =
  | { readonly type: 'issue'; readonly key: IssuedKey }
  | { readonly type: 'revoke'; readonly reason: RevokeReason; readonly at: string };

export const keyDecider: Decider<KeyCommand, KeyState, KeyEvent> = {
  initial: { status: 'none' },
  evolve,
  decide(command, state) {
    switch (command.type) {
      case 'issue':
        // A repeated creation (same idempotency key, so same id) is honoured already; its secret is not shown again.
        return state.status === 'none' ? [{ type: 'KeyIssued', data: command.key }] : [];
      case 'revoke':
        if (state.status === 'none') throw new Rejected('not_found', 'There is no such key.');
        if (state.status === 'revoked') return [];
        return [
          { type: 'KeyRevoked', data: { ...whose(state.issued), reason: command.reason, revokedAt: command.at } },
        ];
      default:
        return [];
    }
  },
};

const whose = ({ keyId, organizationId, project, keyPrefix }: IssuedKey) => ({
  keyId,
  organizationId,
  project,
  keyPrefix,
});
