// What can be said of docker-compose.yml and the Dockerfile without an engine; test/journeys/compose.e2e.spec.ts starts them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';

interface Container {
  readonly image: string;
  readonly build?: unknown;
  readonly command?: readonly string[];
  readonly user?: string;
  readonly restart?: string;
  readonly profiles?: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number | null>>;
  readonly healthcheck?: { readonly interval: string; readonly retries: number };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
}
interface Compose {
  readonly services: Readonly<Record<string, Container>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

const ROOT = join(import.meta.dirname, '../..');
const text = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
const dockerfile = readFileSync(join(import.meta.dirname, 'Dockerfile'), 'utf8');
const { services, volumes } = parse(text, { merge: true, maxAliasCount: -1 }) as Compose;

const containers = Object.entries(services);
const isOnce = ([, { restart }]: readonly [string, Container]) => restart === 'no';
const isOnDemand = ([, { profiles }]: readonly [string, Container]) => profiles?.includes('tools') === true;
const lasting = containers.filter((one) => !isOnce(one) && !isOnDemand(one));
const ours = containers.filter(([, { image }]) => image.includes('SLUICE_IMAGE'));
const namesOf = (some: readonly (readonly [string, Container])[]) => some.map(([name]) => name);

describe('docker-compose.yml', () => {
  it('says for everything that stays up whether it is healthy, with at least a minute to get there', () => {
    const minute = lasting.map(([name, { healthcheck }]) => [
      name,
      healthcheck !== undefined && Number.parseInt(healthcheck.interval, 10) * healthcheck.retries >= 60,
    ]);
    expect(minute).toEqual(namesOf(lasting).map((name) => [name, true]));
    expect(lasting.filter(([, { restart }]) => restart !== 'unless-stopped')).toEqual([]);
  });

  it('has nothing run once that nobody waits for: `up --wait` would call its end a failure', () => {
    const waitedFor = new Set(
      containers.flatMap(([, { depends_on = {} }]) =>
        Object.entries(depends_on).flatMap(([name, { condition }]) =>
          condition === 'service_completed_successfully' ? [name] : [],
        ),
      ),
    );
    expect(namesOf(containers.filter(isOnce)).toSorted()).toEqual([...waitedFor].toSorted());
  });

  it('opens no port but those for people, and these on loopback unless told otherwise', () => {
    const open = containers.filter(([, { ports }]) => ports !== undefined);
    expect(open.map(([name, { ports, profiles }]) => ({ name, ports, profiles }))).toEqual([
      { name: 'gateway', ports: ['${SLUICE_BIND:-127.0.0.1}:${SLUICE_PORT:-8787}:8080'], profiles: undefined },
      {
        name: 'grafana',
        ports: ['${GRAFANA_BIND:-127.0.0.1}:${GRAFANA_PORT:-3000}:3000'],
        profiles: ['observability'],
      },
    ]);
  });

  it('runs the servers that everything else is tested with, by tag', () => {
    const images = Object.fromEntries(containers.map(([name, { image }]) => [name, image]));
    expect(images).toMatchObject({
      postgres: 'postgres:17',
      nats: 'nats:2.10-alpine',
      redis: 'redis:7',
      prometheus: 'prom/prometheus:v2.53.3',
      grafana: expect.stringMatching(/^grafana\/grafana:\d+\.\d+\.\d+$/),
    });
    // The same for all of ours, and built once.
    expect(new Set(ours.map(([, { image }]) => image)).size).toBe(1);
    expect(namesOf(containers.filter(([, { build }]) => build !== undefined))).toEqual(['secrets']);
  });

  it('keeps data in volumes with names, none by accident in one without', () => {
    const mounts = containers.flatMap(([, { volumes = [] }]) => volumes.map((mount) => mount.split(':')[0]!));
    const named = mounts.filter((source) => !source.startsWith('./'));
    expect([...new Set(named)].toSorted()).toEqual(Object.keys(volumes).toSorted());
    // Where these images declare a volume, they make one without a name if nothing is mounted there.
    for (const [name, folder] of Object.entries({
      postgres: '/var/lib/postgresql/data',
      redis: '/data',
      prometheus: '/prometheus',
      grafana: '/var/lib/grafana',
    }))
      expect(services[name]!.volumes).toContain(`${name}:${folder}`);
  });

  it('gives each container the secrets of one, and only the maker of secrets all of them', () => {
    const seen = containers.flatMap(([name, { volumes = [] }]) =>
      name === 'secrets'
        ? []
        : volumes.filter((mount) => /secrets:/.test(mount)).map((mount) => [name, mount] as const),
    );
    const owner = (name: string) => name.replace(/^migrate-/, '').replace(/^worker-\d+$/, 'worker');
    expect(seen).toEqual(
      seen.map(([name]) => [
        name,
        name === 'operator-key' ? 'secrets:/secrets:ro' : `${owner(name)}-secrets:/run/secrets:ro`,
      ]),
    );
    expect(new Set(seen.map(([name]) => name)).size).toBe(seen.length);
  });

  it('has no secret in it', () => {
    const settings = containers.flatMap(([name, { environment = {} }]) =>
      Object.entries(environment).flatMap(([key, value]) =>
        // Without a value it is passed on from whoever starts compose.
        value === null ? [] : [{ name, key, value: `${value}` }],
      ),
    );
    const secret = settings.filter(({ key }) => /PASSWORD|SECRET|KEY|TOKEN/.test(key) && !key.endsWith('_FILE'));
    expect(secret).toEqual([]);
    expect(settings.filter(({ value }) => /:\/\/[^/]*@/.test(value))).toEqual([]);
  });

  it('leaves our containers without rights: no capability, no writable image, root only for the maker of secrets', () => {
    expect(ours.filter(([, { cap_drop }]) => cap_drop?.join() !== 'ALL')).toEqual([]);
    expect(ours.filter(([, { read_only }]) => read_only !== true)).toEqual([]);
    expect(namesOf(ours.filter(([, { user }]) => user !== undefined))).toEqual(['secrets']);
    expect(dockerfile).toMatch(/^USER node$/m);
  });

  it('asks for nothing that Docker engine 20.10 refuses, and for no frontend from a registry', () => {
    expect(text).not.toMatch(/start_interval|type: image|^configs:/m);
    expect(dockerfile).not.toMatch(/^#\s*syntax=/m);
  });
});
