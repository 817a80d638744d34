// npm start: from a fresh clone to a running Sluice. Arguments go to up.ts.
import { become, main } from './child.mjs';
import { prepare, root } from './prepare.mjs';

await main(async () => {
  const { node, env } = await prepare();
  return become(
    node,
    ['--disable-warning=ExperimentalWarning', `${root}/deploy/local/up.ts`, ...process.argv.slice(2)],
    env,
  );
});
