import { fork, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePorts } from '@sluice/testing';
import type { Tool } from './tools.ts';

const WITH_PARENT = fileURLToPath(new URL('../../../deploy/local/with-parent.mjs', import.meta.url));
const BARE_PROXY = fileURLToPath(new URL('bare-proxy.ts', import.meta.url));
const READY_MS = 20_000;
const STOP_MS = 5_000;

/** A server that the bench started, in a process of its own. */
export interface Child {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

export async function startBareProxy(target: string, dir: string): Promise<Child> {
  const child = forked(BARE_PROXY, [target], join(dir, 'bare-proxy.log'));
  const { port } = await new Promise<{ port: number }>((resolve, reject) => {
    child.once('message', resolve as (message: unknown) => void);
    child.once('exit', (code) => reject(new Error(`the bare proxy ended with ${code}`)));
  });
  return asChild(child, port);
}

const require = createRequire(import.meta.url);

/** Without its web pages and its log of requests, as in production. */
export async function startPortkey(dir: string): Promise<Child & { readonly version: string }> {
  const { version } = require('@portkey-ai/gateway/package.json') as { version: string };
  const script = require.resolve('@portkey-ai/gateway/build/start-server.js');
  const [port] = await freePorts(1);
  const child = forked(script, [`--port=${port}`, '--headless'], join(dir, 'portkey.log'));
  await answering(`http://127.0.0.1:${port}/`);
  return { ...asChild(child, port!), version };
}

export async function startNginx({ command, env }: Tool, target: string, dir: string): Promise<Child> {
  const [port] = await freePorts(1);
  const home = join(dir, 'nginx');
  mkdirSync(home);
  const config = join(home, 'nginx.conf');
  writeFileSync(config, nginxConfig(home, port!, new URL(target).host));
  // The shell ends it when the pipe from us breaks, whatever ended us.
  const guard = '"$@" & read -r _; kill "$!"';
  const args = ['-c', guard, 'sh', command, '-p', home, '-c', config, '-e', join(home, 'error.log')];
  const child = spawn('/bin/sh', args, {
    env: { PATH: '/usr/bin:/bin', ...env },
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  await answering(`http://127.0.0.1:${port}/health`);
  const nginx = asChild(child, port!);
  const stop = async () => {
    child.stdin.end();
    await nginx.stop();
  };
  return { ...nginx, stop };
}

/** One process, as every other system has one per hop; no buffering, so that chunks go on as they come. */
const nginxConfig = (home: string, port: number, upstream: string): string => `
daemon off;
master_process off;
pid ${home}/nginx.pid;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${home}/${name};`).join(' ')}
  client_max_body_size 20m;
  client_body_buffer_size 256k;
  keepalive_requests 1000000000;
  upstream worker { server ${upstream}; keepalive 512; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://worker;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }
  }
}
`;

function forked(script: string, args: readonly string[], log: string): ChildProcess {
  const out = openSync(log, 'a');
  const child = fork(script, args, {
    execArgv: ['--disable-warning=ExperimentalWarning', '--import', WITH_PARENT],
    env: { PATH: process.env['PATH'], NODE_ENV: 'production' },
    stdio: ['ignore', out, out, 'ipc'],
  });
  closeSync(out);
  return child;
}

const asChild = (child: ChildProcess, port: number): Child => ({
  url: `http://127.0.0.1:${port}`,
  pid: child.pid!,
  stop: () => ended(child),
});

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  // The shell that guards a server ends by its pipe; a signal would leave the server behind.
  if (!child.stdin) child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await gone;
  clearTimeout(timer);
}

async function answering(url: string): Promise<void> {
  for (const until = performance.now() + READY_MS; ; await sleep(50)) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(1_000) });
      await response.arrayBuffer();
      if (response.status < 500) return;
    } catch (cause) {
      if (performance.now() > until) throw new Error(`nothing answers at ${url}`, { cause });
    }
    if (performance.now() > until) throw new Error(`nothing answers at ${url} as it should`);
  }
}
