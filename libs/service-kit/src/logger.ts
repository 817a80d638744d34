import type { LoggerService } from '@nestjs/common';
import { pino, type Logger } from 'pino';

/** Fields that are never written, wherever a log call puts them. */
const REDACTED = ['authorization', 'apiKey', 'secret', 'password', 'token', '["x-api-key"]', '["api-key"]'];

/** Parts of Nest that tell every start what the code says anyway. */
const NOISE: ReadonlySet<string> = new Set([
  'NestFactory',
  'InstanceLoader',
  'RoutesResolver',
  'RouterExplorer',
  'NestApplication',
]);

let root: Logger = pino({ level: 'silent' });

export function startLogger(service: string, level: string): void {
  root = pino({
    level,
    base: { service },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: {
      paths: REDACTED.flatMap((name) => (name.startsWith('[') ? [name, `*${name}`] : [name, `*.${name}`])),
      censor: '[redacted]',
    },
  });
}

/** A JSON logger for one part of a service. */
export const loggerFor = (part: string): Logger => root.child({ part });

/** Nest's own messages through the same logger. */
export class NestLogger implements LoggerService {
  log(message: unknown, ...rest: unknown[]) {
    this.write('info', message, rest);
  }
  error(message: unknown, ...rest: unknown[]) {
    this.write('error', message, rest);
  }
  warn(message: unknown, ...rest: unknown[]) {
    this.write('warn', message, rest);
  }
  debug(message: unknown, ...rest: unknown[]) {
    this.write('debug', message, rest);
  }
  verbose(message: unknown, ...rest: unknown[]) {
    this.write('debug', message, rest);
  }
  fatal(message: unknown, ...rest: unknown[]) {
    this.write('fatal', message, rest);
  }

  private write(level: 'info' | 'error' | 'warn' | 'debug' | 'fatal', message: unknown, rest: unknown[]) {
    // Nest hands the context over as the last parameter, a stack before it.
    const context = typeof rest.at(-1) === 'string' ? (rest.at(-1) as string) : undefined;
    if (level === 'info' && NOISE.has(context ?? '')) return;
    if (message instanceof Error) root[level]({ part: context, err: message }, message.message);
    else if (typeof message === 'object' && message !== null) root[level]({ part: context, ...message });
    else root[level]({ part: context }, String(message));
  }
}
