// Progress for people: one line per step, with its time; on a terminal the time runs.
import { stdout } from 'node:process';

const seconds = (since) => `${((performance.now() - since) / 1_000).toFixed(1)} s`;

export const say = (line) => console.log(`  ${line}`);

/** Runs one named step and tells how long it took; a failed one is marked and thrown on. */
export async function step(name, work) {
  const started = performance.now();
  const draw = () => stdout.write(`\r… ${name} ${seconds(started)}`);
  if (stdout.isTTY) draw();
  const ticking = stdout.isTTY
    ? setInterval(draw, 1_000)
    : setInterval(() => console.log(`… ${name} ${seconds(started)}`), 15_000);
  const end = (mark) => {
    clearInterval(ticking);
    console.log(`${stdout.isTTY ? '\r' : ''}${mark} ${name} ${seconds(started)}${stdout.isTTY ? '   ' : ''}`);
  };
  try {
    const result = await work();
    end('✓');
    return result;
  } catch (error) {
    end('✗');
    throw error;
  }
}
