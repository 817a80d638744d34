import { describe, expect, it } from '@jest/globals';
import { gatewayConfig } from './gateway.config.js';

const needed = {
  PORT: '1',
  SERVICE_PRIVATE_KEY: '{"kty":"OKP","crv":"Ed25519","d":"d","kid":"gateway"}',
  SERVICE_PUBLIC_KEYS: '{"keys":[]}',
  NATS_URL: 'nats://h',
  REDIS_URL: 'redis://h',
  AUTH_URL: 'http://h',
  BILLING_URL: 'http://h',
  METERING_URL: 'http://h',
  ROUTER_URL: 'http://h',
  JOURNAL_DIR: 'j',
};

describe('the configuration of a gateway', () => {
  it('trusts no proxy and uses the known prefixes where nothing is said', () => {
    const config = gatewayConfig(needed);
    expect(config.TRUSTED_PROXIES).toEqual([]);
    expect(config.SECRET_PREFIXES).toMatchObject({ credit: 'sk_live_', session: 'st_' });
  });

  it('takes addresses and blocks of proxies', () => {
    const config = gatewayConfig({ ...needed, TRUSTED_PROXIES: '10.0.0.0/8, ::1,192.0.2.1' });
    expect(config.TRUSTED_PROXIES).toEqual(['10.0.0.0/8', '::1', '192.0.2.1']);
  });

  it.each(['proxy.local', '10.0.0.0/33', '10.0.0.0/x', '::/129'])('refuses %s as a proxy', (text) => {
    expect(() => gatewayConfig({ ...needed, TRUSTED_PROXIES: text })).toThrow('TRUSTED_PROXIES');
  });

  it('takes prefixes of one’s own, and refuses those by which nobody can tell the kinds apart', () => {
    const text = 'credit=a_,subscription=b_,management=c_,session=d_,operator=e_';
    expect(gatewayConfig({ ...needed, SECRET_PREFIXES: '' }).SECRET_PREFIXES.session).toBe('st_');
    expect(gatewayConfig({ ...needed, SECRET_PREFIXES: text }).SECRET_PREFIXES.session).toBe('d_');
    expect(() => gatewayConfig({ ...needed, SECRET_PREFIXES: text.replace('b_', 'a_x') })).toThrow('SECRET_PREFIXES');
  });
});
