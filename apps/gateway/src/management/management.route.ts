import { Readable } from 'node:stream';
import { ERRORS, Rejected, type ErrorCode } from '@sluice/contracts/errors';
import type { Actor } from '@sluice/contracts/actor';
import type { Credential } from '@sluice/contracts/auth';
import { may, ORGANIZATION_WIDE, type Operation, type Permission } from '@sluice/contracts/operations';
import { planeOf } from '@sluice/primitives/secret';
import {
  loggerFor,
  managementProblem,
  ok,
  openaiProblem,
  problemHeaders,
  toRejected,
  type ServiceTokens,
} from '@sluice/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter } from 'prom-client';
import type { Explanations } from '../explain/explanations.service.js';
import type { Keys } from '../keys/keys.service.js';
import { requireAddress } from '../keys/permits.js';
import type { PreviousUses } from '../keys/previous-uses.service.js';
import type { Refusals } from '../refusals/refusals.service.js';
import type { AuditClient } from './audit.client.js';
import type { KeyOwners } from './key-owners.client.js';
import type { Answer, Owners } from './owners.client.js';
import { findRoute } from './routes.js';

/** How long a client may take nothing of a streamed answer. Longer than the owner may need for the next part of it. */
const STALL_MS = 60_000;
/** What an owner may see of a client's headers beside the body. */
const PASSED_HEADERS = ['content-type', 'idempotency-key', 'if-match', 'stripe-signature'] as const;
/** What a client may see of an owner's. */
const ANSWERED_HEADERS = ['content-type', 'etag', 'retry-after', 'location', 'content-disposition', 'link'] as const;

/** The management plane's edge: finds out who asks, and hands the command to its owner with a signed actor. */
export class ManagementRoute {
  private readonly log = loggerFor('management');
  private readonly requests = new Counter({
    name: 'gateway_management_requests_total',
    help: 'Management requests by owner and result (a code of the error catalogue, or the status of the owner)',
    labelNames: ['service', 'result'],
  });

  constructor(
    private readonly owners: Owners,
    private readonly keys: Keys,
    private readonly tokens: ServiceTokens,
    private readonly previousUses: PreviousUses,
    private readonly audit: AuditClient,
    private readonly refusals: Refusals,
    private readonly explanations: Explanations,
    private readonly keyOwners: KeyOwners,
  ) {}

  async handle(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const path = request.url.split('?', 1)[0]!;
    const route = findRoute(request.method, path);
    const service = route.found === 'operation' ? route.operation.owner : 'none';
    const operation = route.found === 'operation' ? `${request.method} ${route.operation.path}` : request.method;
    try {
      const anonymous = route.found === 'operation' && route.operation.permission === 'anonymous';
      const digest = anonymous ? undefined : await this.authenticate(request);
      if (route.found === 'nothing') throw new Rejected('not_found');
      if (route.found === 'other-methods') {
        void reply.header('allow', route.allow);
        throw new Rejected('method_not_allowed', `${request.method} is not for this path; it takes ${route.allow}.`);
      }
      const { status, body } = await this.forward(route.operation, digest, request, reply);
      this.requests.inc({ service, result: String(status) });
      const why = status >= 400 && Buffer.isBuffer(body) ? refusalIn(body) : undefined;
      if (why) this.refusals.note(request, why, { operation, status });
    } catch (error) {
      const rejected = toRejected(error);
      if (ERRORS[rejected.code].status >= 500)
        this.log.error({ err: error, requestId: request.id, path }, 'a management request failed');
      this.requests.inc({ service, result: rejected.code });
      this.refusals.note(request, rejected, { operation });
      const body = path.startsWith('/v1/') ? openaiProblem(rejected) : managementProblem(rejected, request.id);
      await reply
        .status(ERRORS[rejected.code].status)
        .headers({ 'x-request-id': request.id, ...problemHeaders(rejected) })
        .send(body);
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.owners.close(), this.keyOwners.close()]);
  }

  /** The digest of a credential of this plane, alive a moment ago. */
  private async authenticate(request: FastifyRequest): Promise<string> {
    const { digest, kind } = this.keys.presented(request.headers);
    if (planeOf(kind) !== 'management') throw new Rejected('wrong_credential_type');
    const credential = await this.alive(digest, request);
    this.previousUses.note(credential);
    return digest;
  }

  private async forward(
    operation: Operation,
    digest: string | undefined,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<Answer<Buffer | Readable>> {
    const { owner, permission, method, path } = operation;
    const actor = actorOf(digest === undefined ? undefined : await this.alive(digest, request), request);
    requirePermission(actor, permission);
    if (owner === 'not-yet') throw new Rejected('not_implemented', `${method} ${path} is not implemented yet.`);
    const given = request.body as Buffer | undefined;
    const body = given?.length ? given : undefined;
    const called = request.url.split('?', 1)[0]!;
    if (operation.ofKey) await this.keyOwners.require(actor, called.split('/')[path.split('/').indexOf(':id')]!);
    const audited = this.audit.takes(operation);
    if (audited) await this.audit.command(actor, operation, called, body);
    const gone = new AbortController();
    let answer: Answer<Buffer | Readable>;
    if (owner === 'gateway') answer = await this.explain(actor, called);
    else {
      const authorization = await this.tokens.headerFor(owner, actor);
      // Signing takes a turn: evidence and rights are looked at again in the turn in which the command goes out.
      while (!this.holds(digest, request, permission)) await this.keys.find(digest!);
      const headers: Record<string, string> = { authorization, 'x-request-id': request.id };
      for (const name of PASSED_HEADERS) {
        const value = request.headers[name];
        // Many clients name a type with every request; a DELETE without a body is not one with bad JSON.
        if (typeof value === 'string' && (body || name !== 'content-type')) headers[name] = value;
      }
      const order = { method: request.method, path: request.url, headers, body: body ?? null };
      if (operation.streamed) {
        reply.raw.once('close', () => gone.abort());
        answer = await this.owners.stream(owner, order, gone.signal);
      } else answer = await this.owners.ask(owner, order);
    }
    if (audited) this.audit.outcome(actor, operation, called, answer.status);
    // And before what was read goes out. A command is done, and may have ended its own credential, as a logout does.
    if (method === 'GET') {
      while (!this.holds(digest, request, permission)) await this.keys.find(digest!);
    }
    const shown: Record<string, string> = { 'content-type': 'application/json', 'x-request-id': request.id };
    for (const name of ANSWERED_HEADERS) {
      const value = answer.headers[name];
      if (value !== undefined) shown[name] = value;
    }
    void reply.status(answer.status).headers(shown);
    if (Buffer.isBuffer(answer.body)) await reply.send(answer.body);
    else {
      reply.raw.setTimeout(STALL_MS, () => reply.raw.destroy());
      const holds = () => this.holds(digest, request, permission);
      const parts = this.whileAlive(answer.body, holds, () => this.keys.find(digest!));
      await reply.send(Readable.from(parts, { objectMode: false }));
    }
    return answer;
  }

  /** The parts of an answer, for as long as the credential is good: it ends with an error, which breaks the connection off. */
  private async *whileAlive(body: Readable, holds: () => boolean, prove: () => Promise<unknown>) {
    for await (const part of body) {
      while (!holds()) await prove();
      yield part as Buffer;
    }
  }

  /** The only operation of the gateway's own. */
  private async explain(actor: Actor, called: string): Promise<Answer> {
    const explanation = await this.explanations.find(actor, called.slice(called.lastIndexOf('/') + 1));
    return { status: 200, headers: {}, body: Buffer.from(JSON.stringify(ok(explanation))) };
  }

  /** @throws Rejected `invalid_api_key`, `api_key_expired`, `ip_not_allowed`, `unavailable` */
  private async alive(digest: string, { ip }: FastifyRequest): Promise<Credential> {
    const credential = this.keys.admit(digest) ?? (await this.keys.find(digest));
    requireAddress(credential, ip);
    return credential;
  }

  /** Synchronous: false is no evidence. @throws Rejected as `alive` does; what the permission refuses with */
  private holds(digest: string | undefined, request: FastifyRequest, permission: Permission): boolean {
    if (digest === undefined) return true;
    const credential = this.keys.admit(digest);
    if (credential === undefined) return false;
    requireAddress(credential, request.ip);
    requirePermission(actorOf(credential, request), permission);
    return true;
  }
}

/** What an owner refused with; undefined for what is not of the catalogue. */
function refusalIn(bytes: Buffer): { code: ErrorCode; message: string } | undefined {
  try {
    const { error } = JSON.parse(bytes.toString('utf8')) as { error: { code: string; message: string } };
    return error.code in ERRORS ? { code: error.code as ErrorCode, message: error.message } : undefined;
  } catch {
    return undefined;
  }
}

function actorOf(credential: Credential | undefined, { id, ip }: FastifyRequest): Actor {
  const caller = { requestId: id, address: ip };
  if (credential === undefined) {
    const nobody = { keyId: '', memberId: null, role: null, scopes: [], organizationId: null, project: null };
    return { kind: 'anonymous', ...nobody, ...caller };
  }
  const { kind, keyId, memberId, role, scopes, organizationId, project } = credential;
  const actor = { keyId, memberId, role, scopes, organizationId, project, ...caller };
  return { kind: kind === 'operator' || kind === 'session' ? kind : 'management', ...actor };
}

function requirePermission(actor: Actor, permission: Permission): void {
  if (may(actor, permission)) {
    if (actor.project !== null && ORGANIZATION_WIDE.includes(permission)) throw new Rejected('project_scope_mismatch');
    return;
  }
  if (actor.kind === 'operator')
    throw new Rejected('wrong_credential_type', "This takes an organization's credential.");
  if (permission === 'operator') throw new Rejected('scope_insufficient', 'This takes an operator credential.');
  throw new Rejected('scope_insufficient', `This takes the permission ${permission}.`);
}
