import { applyDecorators, createParamDecorator, Injectable, SetMetadata, UseGuards } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Actor, ServiceName } from '@sluice/contracts/actor';
import { Rejected } from '@sluice/contracts/errors';
import type { FastifyRequest } from 'fastify';
import { ServiceTokens, type Caller } from './service-tokens.js';

const ALLOWED = 'sluice:allowed-services';

declare module 'fastify' {
  interface FastifyRequest {
    sluiceCaller?: Caller;
  }
}

@Injectable()
export class CallersGuard implements CanActivate {
  constructor(
    private readonly tokens: ServiceTokens,
    private readonly reflector: Reflector,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    const caller = await this.tokens.verify(request.headers.authorization);
    const allowed = this.reflector.getAllAndOverride<ServiceName[]>(ALLOWED, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (!allowed.includes(caller.service))
      throw new Rejected('scope_insufficient', `${caller.service} may not call this.`);
    request.sluiceCaller = caller;
    return true;
  }
}

/** On a controller or handler: only these services may call, with their own token. */
export const AllowServices = (...services: ServiceName[]) =>
  applyDecorators(SetMetadata(ALLOWED, services), UseGuards(CallersGuard));

/** The verified actor of a management command, on a handler under `@AllowServices('gateway')`. */
export const ManagementActor = createParamDecorator((_: unknown, context: ExecutionContext): Actor => {
  const actor = context.switchToHttp().getRequest<FastifyRequest>().sluiceCaller?.actor;
  if (!actor) throw new Rejected('invalid_service_token', 'This call needs an actor.');
  return actor;
});

/** @throws Rejected `scope_insufficient` unless the actor is the platform's operator */
export function requireOperator(actor: Actor): void {
  if (actor.kind !== 'operator') throw new Rejected('scope_insufficient', 'This takes an operator credential.');
}

/** The actor's organization. @throws Rejected `wrong_credential_type` for an operator, who has none */
export function requireOrganization(actor: Actor): string {
  if (actor.organizationId === null) {
    throw new Rejected('wrong_credential_type', "This takes an organization's management key.");
  }
  return actor.organizationId;
}
