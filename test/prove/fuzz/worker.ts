import type { Asked } from '../../played-worker.ts';
import { soundAnswer, type Script } from './scripts.ts';

/** Found in the prompt: which script the worker follows. */
export const markOf = (id: string): string => `case-${id}-`;
const MARK = /case-([a-z0-9]+)-/;

/** Says what the case wants it to say. @param scripts by the id of the case; without one it is a sound worker */
export async function follow(scripts: ReadonlyMap<string, Script>, { socket, path, body }: Asked): Promise<void> {
  const script = scripts.get(MARK.exec(body)?.[1] ?? '') ?? soundAnswer(path, asksStream(body));
  for (const part of script.parts) {
    if (socket.destroyed) return;
    socket.write(part);
    await new Promise((next) => setImmediate(next));
  }
  if (script.end === 'fin') socket.end();
  else if (script.end === 'reset') socket.resetAndDestroy();
}

const asksStream = (body: string): boolean => (JSON.parse(body) as { stream?: unknown }).stream === true;
