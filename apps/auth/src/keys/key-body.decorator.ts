import { createParamDecorator, type ExecutionContext, type RawBodyRequest } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { withExactBudget } from './key-budget.js';

/** The body of a request that may have a `maxBudget`, which is then a bigint of pico-USD. @throws Rejected `invalid_request` */
export const KeyBody = createParamDecorator((_: unknown, context: ExecutionContext): unknown => {
  const { body, rawBody } = context.switchToHttp().getRequest<RawBodyRequest<FastifyRequest>>();
  return withExactBudget(body, () => new TextDecoder().decode(rawBody));
});
