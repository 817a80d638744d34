import { describe, expect, it } from '@jest/globals';
import { authConfig } from './auth.config.js';

const key = { kty: 'OKP', crv: 'Ed25519', kid: 'auth' };
const base = {
  PORT: '0',
  SERVICE_PRIVATE_KEY: JSON.stringify({ ...key, d: 'd' }),
  SERVICE_PUBLIC_KEYS: JSON.stringify({ keys: [key] }),
  DATABASE_URL: 'postgres://127.0.0.1/auth',
  NATS_URL: 'nats://127.0.0.1',
  BILLING_URL: 'http://127.0.0.1',
};
const provider = {
  OIDC_ISSUER: 'https://login.example.com',
  OIDC_CLIENT_ID: 'sluice',
  OIDC_CLIENT_SECRET: 'long enough a secret',
  OIDC_REDIRECT_URL: 'https://console.example.com/signed-in',
};

describe('the prefixes of secrets', () => {
  it('are the usual ones, or one’s own, by which the kinds can be told apart', () => {
    const text = 'credit=a_,subscription=b_,management=c_,session=d_,operator=e_';
    expect(authConfig(base).SECRET_PREFIXES.credit).toBe('sk_live_');
    expect(authConfig({ ...base, SECRET_PREFIXES: text }).SECRET_PREFIXES.credit).toBe('a_');
    expect(() => authConfig({ ...base, SECRET_PREFIXES: 'credit=a_' })).toThrow('SECRET_PREFIXES');
  });
});

describe('the provider of sign-ins', () => {
  it('is none by default, also where its settings are there and empty', () => {
    expect(authConfig(base).oidc).toBeUndefined();
    const empty = {
      OIDC_ISSUER: '',
      OIDC_CLIENT_ID: '',
      OIDC_CLIENT_SECRET: '',
      OIDC_REDIRECT_URL: '',
      OIDC_ALLOW_HTTP: '',
    };
    expect(authConfig({ ...base, ...empty }).oidc).toBeUndefined();
  });

  it('has all four settings, or the service does not start', () => {
    expect(authConfig({ ...base, ...provider }).oidc).toEqual({
      issuer: 'https://login.example.com',
      clientId: 'sluice',
      clientSecret: 'long enough a secret',
      redirectUrl: 'https://console.example.com/signed-in',
      allowHttp: false,
    });
    for (const name of Object.keys(provider))
      expect(() => authConfig({ ...base, ...provider, [name]: '' })).toThrow('all four, or none');
  });

  it('is asked over HTTPS: plain HTTP takes a setting of its own, and never goes in production', () => {
    const plain = { ...base, ...provider, OIDC_ISSUER: 'http://127.0.0.1:3000' };
    expect(() => authConfig(plain)).toThrow('must be an https URL');
    expect(authConfig({ ...plain, OIDC_ALLOW_HTTP: 'true' }).oidc).toMatchObject({ allowHttp: true });
    expect(() => authConfig({ ...plain, OIDC_ALLOW_HTTP: 'true', NODE_ENV: 'production' })).toThrow(
      'not in production',
    );
  });
});
