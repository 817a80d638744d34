import { describe, expect, it } from '@jest/globals';
import { generated, stale } from './generate.ts';

describe('generated files', () => {
  it('are as the code says: the error table of the README and the schemas of public events', () => {
    expect(stale()).toEqual([]);
  });

  it('hold a JSON Schema of each public event', () => {
    const schema = generated().get('libs/contracts/schemas/sluice.auth.key.revoked.v1.json');
    expect(JSON.parse(schema!)).toMatchObject({
      title: 'sluice.auth.key.revoked.v1',
      properties: {
        type: { const: 'sluice.auth.key.revoked.v1' },
        data: { required: expect.arrayContaining(['keyId', 'reason']) },
      },
    });
  });
});
