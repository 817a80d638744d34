import type { Call } from './client.ts';
import { Victim, type Made } from './checker.ts';
import type { Desk } from './desk.ts';

const MANY = 1_000_000;
/** Tokens of a stream in flight: longer than anybody waits for its end. */
const STREAM_TOKENS = 1_500;

/** One sort of credential, how it is used, and what ends it. */
export interface Kind {
  readonly name: string;
  /** Of every hundred victims, about this many. */
  readonly share: number;
  /** Nobody calls it before the revoke begins: no gateway has ever seen it. */
  readonly cold?: boolean;
  /** The call that its users repeat; "stream" is held open. */
  readonly what: 'call' | 'stream';
  make(desk: Desk): Promise<Made>;
  call(victim: Victim, secret: string): Call;
  /** @param attempt from 0; a repetition has to be possible after the first one has ended what it was sent with */
  revoke(victim: Victim, desk: Desk, attempt: number): Call;
  /** Tells whether a pending revoke is in force by now. */
  status?(victim: Victim, desk: Desk): Call;
}

interface KeyMade {
  readonly id: string;
  readonly apiKey: string;
}

let named = 0;

async function creditKey(desk: Desk): Promise<Made> {
  const name = `victim-${++named}`;
  const body = { name, rpm: MANY, tags: [name] };
  const { id, apiKey } = await desk.must<KeyMade>('POST', '/api/keys/credit', body);
  return { id, secrets: [apiKey], tag: name };
}

export const completion = (victim: Victim, secret: string, tokens: number, stream: boolean): Call => ({
  method: 'POST',
  path: '/v1/chat/completions',
  secret,
  body: {
    model: 'demo/small-7b',
    messages: [{ role: 'user', content: `${victim.tag} count` }],
    max_tokens: tokens,
    min_tokens: tokens,
    ignore_eos: true,
    stream,
  },
});
const short = (victim: Victim, secret: string): Call => completion(victim, secret, 1, false);
const deleteKey = ({ id }: Victim, desk: Desk): Call => ({
  method: 'DELETE',
  path: `/api/keys/${id}`,
  secret: desk.managementKey,
});

const status = ({ id }: Victim, desk: Desk): Call => ({
  method: 'GET',
  path: `/api/keys/${id}`,
  secret: desk.managementKey,
});
const removeMember = ({ id }: Victim, desk: Desk): Call => ({
  method: 'DELETE',
  path: `/api/members/${id}`,
  secret: desk.managementKey,
});

export const KINDS: readonly Kind[] = [
  { name: 'short', share: 20, what: 'call', make: creditKey, call: short, revoke: deleteKey, status },
  {
    name: 'models',
    share: 8,
    what: 'call',
    make: creditKey,
    call: (_victim, secret) => ({ method: 'GET', path: '/v1/models', secret }),
    revoke: deleteKey,
    status,
  },
  {
    name: 'stream',
    share: 16,
    what: 'stream',
    make: creditKey,
    call: (victim, secret) => completion(victim, secret, STREAM_TOKENS, true),
    revoke: deleteKey,
    status,
  },
  { name: 'cold', share: 16, cold: true, what: 'call', make: creditKey, call: short, revoke: deleteKey, status },
  {
    name: 'management',
    share: 12,
    what: 'call',
    make: async (desk) => {
      const body = { name: `victim ${++named}` };
      const { id, apiKey } = await desk.must<KeyMade>('POST', '/api/keys/management', body);
      return { id, secrets: [apiKey] };
    },
    call: (_victim, secret) => ({ method: 'GET', path: '/api/keys?limit=1', secret }),
    revoke: ({ id }, desk) => ({ method: 'DELETE', path: `/api/keys/management/${id}`, secret: desk.managementKey }),
  },
  {
    name: 'grace',
    share: 8,
    what: 'call',
    make: async (desk) => {
      const { id, secrets } = await creditKey(desk);
      const { apiKey } = await desk.must<KeyMade>('POST', `/api/keys/${id}/rotate`, { graceSeconds: 3_600 });
      return { id, secrets: [...secrets, apiKey] };
    },
    call: short,
    revoke: deleteKey,
    status,
  },
  {
    name: 'deactivated',
    share: 8,
    what: 'call',
    make: creditKey,
    call: short,
    revoke: ({ id }, desk) => ({
      method: 'PUT',
      path: `/api/keys/${id}`,
      secret: desk.managementKey,
      body: { isActive: false },
    }),
    status,
  },
  {
    name: 'rotated',
    share: 5,
    what: 'call',
    make: creditKey,
    call: short,
    revoke: ({ id }, desk) => ({
      method: 'POST',
      path: `/api/keys/${id}/rotate`,
      secret: desk.managementKey,
      body: { graceSeconds: 0 },
    }),
    status,
  },
  {
    name: 'tagged',
    share: 5,
    what: 'call',
    make: creditKey,
    call: short,
    revoke: ({ mark }, desk) => ({
      method: 'POST',
      path: '/api/keys/revoke',
      secret: desk.managementKey,
      body: { tag: mark },
    }),
  },
  {
    name: 'session',
    share: 8,
    what: 'call',
    make: session,
    call: (_victim, secret) => ({ method: 'GET', path: '/api/keys?limit=1', secret }),
    revoke: removeMember,
  },
  {
    name: 'logout',
    share: 4,
    what: 'call',
    make: session,
    call: (_victim, secret) => ({ method: 'GET', path: '/api/keys?limit=1', secret }),
    revoke: (victim, desk, attempt) =>
      attempt > 0
        ? removeMember(victim, desk)
        : { method: 'POST', path: '/api/auth/logout', secret: victim.secrets[0]! },
  },
  {
    name: 'suspended',
    share: 4,
    what: 'call',
    make: async (desk) => {
      const made = await desk.must<{ id: string; managementKey: KeyMade }>(
        'POST',
        '/api/operator/organizations',
        { name: `victim ${++named}` },
        desk.operatorKey,
      );
      return { id: made.id, secrets: [made.managementKey.apiKey] };
    },
    call: (_victim, secret) => ({ method: 'GET', path: '/api/projects', secret }),
    revoke: ({ id }, desk) => ({
      method: 'POST',
      path: `/api/operator/organizations/${id}/suspend`,
      secret: desk.operatorKey,
      body: { reason: 'abuse' },
    }),
  },
];

/** A member who accepted the invitation and signed in; its removal ends the session. */
async function session(desk: Desk): Promise<Made> {
  const email = `victim-${++named}@example.test`;
  const password = `correct horse ${named} battery`;
  const invited = await desk.must<{ id: string; invitation?: { token?: string }; token?: string }>(
    'POST',
    '/api/members',
    { email, name: `Victim ${named}`, role: 'viewer' },
  );
  const token = invited.token ?? invited.invitation?.token;
  // The answer of the first try may be lost, and the second is then refused: whoever has accepted can sign in.
  await desk.must('POST', '/api/auth/accept', { token, password }, '').catch(() => {});
  const { token: secret } = await desk.must<{ token: string }>('POST', '/api/auth/login', { email, password }, '');
  return { id: invited.id, secrets: [secret] };
}

/** The kinds that this Sluice has; each is tried once. What answers "not there" is left out, and why. */
export async function presentKinds(desk: Desk): Promise<{ present: Kind[]; absent: Record<string, string> }> {
  const present: Kind[] = [];
  const absent: Record<string, string> = {};
  for (const kind of KINDS) {
    try {
      const victim = new Victim(kind.name, 0, await kind.make(desk));
      // For the kinds that differ in their end: is that there?
      const end = kind.revoke(victim, desk, 0);
      const answer = await desk.once(end);
      if (answer === undefined || answer.status >= 300)
        throw new Error(`${end.method}: ${answer?.status} ${answer?.text}`);
      present.push(kind);
    } catch (error) {
      absent[kind.name] = (error as Error).message.replaceAll(/\s+/g, ' ').slice(0, 160);
    }
  }
  return { present, absent };
}
