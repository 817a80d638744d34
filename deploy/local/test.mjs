// npm test [-- tier ... [-- jest arguments]]: sets itself up, then runs the tiers; the last line is "N passed, N failed".
import { become, main } from './child.mjs';
import { prepare, root } from './prepare.mjs';

await main(async () => {
  let ready;
  try {
    ready = await prepare();
  } catch (error) {
    console.error(error.message);
    console.log('0 passed, 1 failed');
    return 1;
  }
  const { node, env } = ready;
  return become(
    node,
    ['--disable-warning=ExperimentalWarning', `${root}/deploy/local/tiers.ts`, ...process.argv.slice(2)],
    env,
  );
});
