// npm run prove -- NAME: a promise of the product, shown by a command that can fail.
import { runNamed } from './prove/runner/run.ts';

await runNamed('prove', new URL('./prove/', import.meta.url), process.argv.slice(2));
