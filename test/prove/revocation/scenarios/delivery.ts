import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../../../stack.ts';
import type { Call } from '../client.ts';
import { completion, type Kind } from '../kinds.ts';
import type { Lane } from '../pipe.ts';
import type { Scenario, Stage, Subject } from './stage.ts';

/** Races of answers under way: what was admitted must not be delivered when the key died meanwhile. */
export const DELIVERY: readonly Scenario[] = [
  {
    name: 'held-answer',
    about: 'a worker answers after the revoke, at a gateway that has not heard of it',
    async play(stage) {
      for (const name of ['short', 'stream']) await deafAnswer(stage, name, (lane) => lane.hold());
    },
  },
  {
    name: 'stopped-answer',
    about: 'a gateway is stopped between dispatch and first byte, and finds the answers in its sockets when it wakes',
    async play(stage) {
      const { c } = stage;
      const subjects = await Promise.all(['short', 'stream', 'short', 'stream'].map((name) => stage.subject(name)));
      await stage.warm(await stage.subject('short'), c);
      c.links.router.down.hold();
      const calls = subjects.flatMap((subject) => [stage.call(subject, c), stage.call(subject, c)]);
      await sleep(400);
      stage.deafen(c);
      c.process.kill('SIGSTOP');
      await Promise.all(subjects.map((subject) => stage.revokeUnheardBy(subject)));
      c.links.router.heal();
      await sleep(50);
      c.process.kill('SIGCONT');
      await Promise.race([Promise.all(calls), sleep(1_500)]);
    },
  },
  {
    name: 'held-body',
    about: 'the head of the answer came before the revoke, the rest after it',
    async play(stage) {
      await deafAnswer(stage, 'short', (lane) => (lane.holdAfter = '\r\n\r\n'));
    },
  },
  {
    name: 'cut-stream',
    about: 'a stream in flight at a sound gateway ends with an error event',
    async play(stage) {
      const { c } = stage;
      const subject = await stage.subject('stream');
      const calls = [stage.call(subject, c), stage.call(subject, c)];
      await sleep(500);
      await stage.revokeUntilInForce(subject);
      const cut = await Promise.race([Promise.all(calls).then(() => true), sleep(2_000)]);
      if (cut !== true) stage.checker.report('uncut', subject.victim, c.name);
      const { trace } = subject.victim;
      if (cut === true && trace.filter((line) => line.includes('ends with an error event')).length < calls.length)
        stage.problem(`a stream was cut without an error event: ${trace.join(' | ')}`);
    },
  },
  {
    name: 'deaf-stream',
    about: 'a stream goes on at a gateway that has not heard of the revoke',
    async play(stage) {
      const { c } = stage;
      const subject = await stage.subject('stream');
      void stage.call(subject, c);
      await sleep(500);
      stage.deafen(c);
      await stage.revokeUnheardBy(subject);
      await sleep(1_500);
    },
  },
  {
    name: 'deaf-stream-slow-auth',
    about: 'the same, and auth answers late: the gateway has asked, does not know yet, and the worker goes on',
    async play(stage) {
      const { c } = stage;
      const subject = await stage.subject('stream');
      void stage.call(subject, c);
      await sleep(500);
      stage.deafen(c);
      c.links.auth.down.delayMs = 1_500;
      const revoked = stage.revokeUnheardBy(subject);
      // No bytes while the lease ends: it is a timer that notices it, and asks.
      await sleep(1_200);
      c.links.router.down.hold();
      await sleep(1_100);
      c.links.router.down.release();
      await revoked;
      await sleep(1_500);
    },
  },
  {
    name: 'cut-off-stream',
    about:
      'a gateway hears of nothing and can ask nobody: its stream may go on, and no request is accepted; then it ends',
    async play(stage) {
      const { c, checker } = stage;
      const [streaming, short] = [await stage.subject('stream'), await stage.subject('short')];
      await stage.warm(short, c);
      void stage.call(streaming, c);
      await sleep(500);
      stage.deafen(c);
      c.links.auth.hold();
      checker.couldAsk = (gateway) => gateway !== c;
      const stop = stage.hammer(short, c);
      await Promise.all([stage.revokeUnheardBy(streaming), stage.revokeUnheardBy(short)]);
      await sleep(1_000);
      c.links.auth.heal();
      // A look-up that was lost takes its whole deadline, and the next question comes L after it began.
      await sleep(4_500);
      checker.couldAsk = () => true;
      await sleep(1_000);
      await stop();
    },
  },
  {
    name: 'stopped-stream',
    about: 'a gateway is stopped in the middle of a stream and wakes with more of it in its sockets',
    async play(stage) {
      const { c } = stage;
      const subject = await stage.subject('stream');
      void stage.call(subject, c);
      await sleep(500);
      c.process.kill('SIGSTOP');
      await stage.revokeUnheardBy(subject);
      c.process.kill('SIGCONT');
      await sleep(1_000);
    },
  },
  {
    name: 'held-management-answer',
    about: 'the owner has answered a management call, and the key is revoked before the answer is passed on',
    async play(stage) {
      const { c } = stage;
      const subject = await stage.subject('management');
      await stage.warm(subject, c);
      c.links.auth.down.hold();
      const call = stage.call(subject, c);
      await sleep(200);
      await stage.revoke(subject);
      c.links.auth.down.release();
      await call;
      await stage.revokeUntilInForce(subject);
    },
  },
  {
    name: 'held-dispatch',
    about: 'a request has been identified and waits to hear of its credit while its key is revoked',
    async play(stage) {
      const { c, desk } = stage;
      const subject = await newcomer(stage);
      // It knows the key and the workloads, and not yet the credit.
      const models = { method: 'GET', path: '/v1/models', secret: subject.victim.secrets[0]! } as const;
      const known = await desk.once(models, c);
      if (known?.status !== 200) stage.problem(`a new key is answered ${known?.status}`);
      c.links.billing.down.hold();
      const call = stage.call(subject, c);
      await sleep(200);
      await stage.revoke(subject);
      c.links.billing.down.release();
      await call;
      await stage.revokeUntilInForce(subject);
    },
  },
];

/** A call whose answer is held between router and gateway until after the revoke, of which the gateway hears nothing. */
async function deafAnswer(stage: Stage, name: string, hold: (lane: Lane) => void): Promise<void> {
  const { c, cluster } = stage;
  const subject = await stage.subject(name);
  if (name === 'short') await stage.warm(subject, c);
  else await stage.warm(await stage.subject('short'), c);
  hold(c.links.router.down);
  const call = stage.call(subject, c);
  await sleep(300);
  stage.deafen(c);
  await stage.revokeUnheardBy(subject);
  c.links.router.heal();
  await Promise.race([call, sleep(1_500)]);
  cluster.heal();
  await cluster.whenLeased();
}

/** A key of an organization that no gateway has met yet. */
async function newcomer({ desk, checker }: Stage): Promise<Subject> {
  const { id, managementKey } = await desk.must<{ id: string; managementKey: { apiKey: string } }>(
    'POST',
    '/api/operator/organizations',
    { name: 'newcomer' },
    desk.operatorKey,
  );
  const owner = managementKey.apiKey;
  await desk.must('PUT', '/api/projects/default/workloads/small', { model: 'demo/small-7b' }, owner);
  // Billing hears of the organization by an event: a moment later.
  const body = { organizationId: id, amount: '1.00', reason: 'demo' };
  const credit: Call = {
    method: 'POST',
    path: '/api/operator/credits',
    body,
    secret: desk.operatorKey,
    idempotency: id,
  };
  await eventually(async () => ((await desk.once(credit))?.status ?? 500) < 300);
  const key = await desk.must<{ id: string; apiKey: string }>('POST', '/api/keys/credit', { name: 'newcomer' }, owner);
  const made = { id: key.id, secrets: [key.apiKey] };
  const kind: Kind = {
    name: 'newcomer',
    share: 0,
    what: 'call',
    make: async () => made,
    call: (victim, secret) => completion(victim, secret, 1, false),
    revoke: (victim) => ({ method: 'DELETE', path: `/api/keys/${victim.id}`, secret: owner }),
  };
  return { victim: checker.add('newcomer', made), kind };
}
