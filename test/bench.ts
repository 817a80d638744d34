// npm run bench -- NAME: a figure of the product, measured against its goal.
import { runNamed } from './prove/runner/run.ts';

await runNamed('bench', new URL('./bench/', import.meta.url), process.argv.slice(2));
