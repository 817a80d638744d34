// The house style, where a machine can see it. Each rule has its reason; a finding names the file and what to do.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const root = join(import.meta.dirname, '..');
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const isCode = (file: string): boolean => /\.(ts|mts|mjs|js|sh)$/.test(file);
const isSpec = (file: string): boolean => file.endsWith('.spec.ts');

const words = (text: string): string[] => text.trim().split(/\s+/);

const isTestCode = (file: string): boolean => /\.(spec|fixture)\.ts$/.test(file) || file.includes('/src/testing/');

const TOP_LEVEL = words(`
  apps libs deploy test docs .ci .github
  README.md DECISIONS.md CONTRIBUTING.md CHANGELOG.md LICENSE
  package.json package-lock.json nx.json jest.config.mjs tsconfig.json tsconfig.base.json
  .dependency-cruiser.mjs .oxlintrc.json .oxfmtrc.json .gitignore .gitattributes .editorconfig .npmrc .nvmrc
  docker-compose.yml .dockerignore
`);

// A name that fits everything collects everything.
const VAGUE = new Set(words('common shared utils util helpers core dto dtos types misc database interfaces'));

// What a file with one of these in its name does besides deciding; `decider`, `projection`, `publisher`, `workflow` are not
// among them: they are pure, like a file with no role at all.
const ROLES = words(`
  main module config service controller consumer entity guard filter interceptor pipe decorator strategy
  route client server store journal relay worker provider plugin migration cli
`);

const CLOCK_OR_CHANCE = [
  { what: 'the clock', pattern: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bprocess\.hrtime/ },
  { what: 'randomness', pattern: /\bMath\.random\(|\brandomUUID\(|\brandomBytes\(|\bgetRandomValues\(/ },
  { what: 'the environment', pattern: /\bprocess\.(env|argv)\b/ },
  { what: 'the network', pattern: /\bfetch\(|^import (?!type).* from 'node:(http|https|dgram)'/m },
  { what: 'a timer', pattern: /\bset(Timeout|Interval|Immediate)\(/ },
];

/** Sources of the clock and of ids themselves: what everybody else is handed. */
const SOURCES = ['libs/primitives/src/clock.ts', 'libs/primitives/src/id.ts', 'libs/primitives/src/secret.ts'];

function roleOf(file: string): string | undefined {
  const name = basename(file).replace(/\.ts$/, '');
  if (ROLES.includes(name)) return name;
  return ROLES.find((role) => name.endsWith(`.${role}`));
}

/** The code without its comments: a comment may name what the code may not. */
const withoutComments = (source: string): string =>
  source.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|[^:'"`\\])\/\/.*$/gm, '$1');

describe('the house stays tidy', () => {
  it('a newcomer finds things: only the known entries stand at the top', () => {
    const top = [...new Set(files.map((file) => file.split('/')[0]!))];
    expect(top.filter((entry) => !TOP_LEVEL.includes(entry))).toEqual([]);
  });

  it('folders say what is in them: none is called common, utils or the like', () => {
    const folders = [...new Set(files.flatMap((file) => dirname(file).split('/')))];
    expect(folders.filter((folder) => VAGUE.has(folder))).toEqual([]);
  });

  it('a file can be read at one sitting: 400 lines at most', () => {
    const long = files.filter(isCode).flatMap((file) => {
      const lines = read(file).split('\n').length;
      return lines > 400 ? [`${file}: ${lines} lines`] : [];
    });
    expect(long).toEqual([]);
  });

  it('what decides is pure: no clock, chance, environment or network in a file without a role', () => {
    const pure = files.filter(
      (file) =>
        /^(apps\/[^/]+|libs\/(primitives|contracts|event-sourcing))\/src\/.*\.ts$/.test(file) &&
        !isTestCode(file) &&
        !file.includes('/migrations/') &&
        roleOf(file) === undefined &&
        !SOURCES.includes(file),
    );
    const impure = pure.flatMap((file) => {
      const source = withoutComments(read(file));
      return CLOCK_OR_CHANCE.filter(({ pattern }) => pattern.test(source)).map(
        ({ what }) => `${file}: uses ${what}; take it as an input, or give the file its role`,
      );
    });
    expect(impure).toEqual([]);
  });

  it('configuration has one door per service: only *.config.ts reads process.env', () => {
    const readers = files.filter(
      (file) => /^apps\/[^/]+\/src\/.*\.ts$/.test(file) && !file.endsWith('.config.ts') && !isTestCode(file),
    );
    expect(readers.filter((file) => /\bprocess\.env\b/.test(withoutComments(read(file))))).toEqual([]);
  });

  it('a service can be met and tried: README.md and <service>.http stand beside its main.ts', () => {
    const services = files
      .filter((file) => /^apps\/[^/]+\/src\/main\.ts$/.test(file))
      .map((file) => file.split('/')[1]!);
    const missing = services.flatMap((service) =>
      [`apps/${service}/README.md`, `apps/${service}/${service}.http`].filter((file) => !files.includes(file)),
    );
    expect(missing).toEqual([]);
  });

  it('the checkout works anywhere: no path of one machine and no registry host in a tracked file', () => {
    // Written in pieces, so that this file does not find itself.
    const forbidden = [
      new RegExp(
        String.raw`(^|[\s'"\x60=(:])/(${['work', 'farm', 'root', 'home/[a-z]+', 'Users/[A-Za-z]+'].join('|')})/`,
      ),
      new RegExp(['registry', 'npmjs', 'org'].join(String.raw`\.`)),
      new RegExp(['deb', 'debian', 'org'].join(String.raw`\.`)),
    ];
    const text = files.filter(
      (file) => statSync(join(root, file)).size < 2_000_000 && !/\.(png|ico|woff2?)$/.test(file),
    );
    const naming = text.flatMap((file) =>
      read(file)
        .split('\n')
        .flatMap((line, i) =>
          forbidden.some((pattern) => pattern.test(line)) ? [`${file}:${i + 1}: ${line.trim().slice(0, 120)}`] : [],
        ),
    );
    expect(naming).toEqual([]);
  });

  it('a test runs in every run: none is focused or switched off', () => {
    const pattern = /\b(?:describe|it|test)\.(?:only|skip|todo)\(|\b(?:fit|fdescribe|xit|xdescribe)\(/;
    expect(files.filter((file) => isSpec(file) && pattern.test(withoutComments(read(file))))).toEqual([]);
  });
});
