// Every example in the services' .http files, sent in order to one Sluice: each has to answer with the status it promises.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ServiceTokens } from '@sluice/service-kit';
import { keptSecrets } from '../../deploy/local/secrets.ts';
import { STACK_START_MS, startTestStack, type TestStack } from '../stack.ts';
import { fill, parseHttpFile } from './http-file.ts';

const ROOT = join(import.meta.dirname, '../..');
/** For a whole answer, streamed ones too, in milliseconds. */
const ANSWER_MS = 60_000;

let stack: TestStack;
let gateway: ServiceTokens;
beforeAll(async () => {
  stack = await startTestStack();
  const { servicePrivateKeys, servicePublicKeys } = await keptSecrets(join(stack.dir, 'secrets.json'));
  gateway = new ServiceTokens('gateway', servicePrivateKeys.gateway, servicePublicKeys);
}, STACK_START_MS);
afterAll(() => stack?.stop());

/** The variables that a file may begin with; what stands there is for people to replace. */
const values = async (): Promise<Record<string, string>> => ({
  base: stack.baseUrl,
  operator: stack.operatorKey,
  management: stack.demo.managementKey,
  key: stack.demo.inferenceKey,
  organization: stack.demo.organizationId,
  router: stack.urls.router,
  token: (await gateway.headerFor('router')).replace('Bearer ', ''),
  worker: stack.workers[0]!.url,
  secret: stack.workerSecret,
});

for (const file of globSync('apps/*/*.http', { cwd: ROOT }).toSorted()) {
  const { variables, requests } = parseHttpFile(readFileSync(join(ROOT, file), 'utf8'));
  const answers = new Map<string, unknown>();

  for (const example of requests) {
    it(
      `${file}: ${example.title}`,
      async () => {
        const all = await values();
        // Only what the file declares: a person who opens it has nothing else.
        const declared = Object.fromEntries(variables.flatMap((name) => (name in all ? [[name, all[name]!]] : [])));
        const { method, url, headers, body } = fill(example, declared, answers);
        const signal = AbortSignal.timeout(ANSWER_MS);
        const response = await fetch(url, { method, headers, signal, ...(body === undefined ? {} : { body }) });
        const text = await response.text();
        expect([response.status, text]).toEqual([example.status, expect.any(String)]);
        if (response.headers.get('content-type')?.startsWith('text/event-stream'))
          expect(text).toMatch(/(data: \[DONE\]|event: (message_stop|response\.completed)\ndata: .*)\n\n$/);
        if (example.name !== undefined) answers.set(example.name, JSON.parse(text));
      },
      ANSWER_MS + 5_000,
    );
  }
}
