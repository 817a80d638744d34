import { describe, expect, it } from '@jest/globals';
import { AllowList } from './allow-list.js';

const list = new AllowList(['127.0.0.0/8', '::1', 'localhost', 'sim-worker-1', '.workers.internal', '10.2.0.0/16']);

describe('the hosts a worker may stand on', () => {
  it.each([
    'http://127.0.0.1:8000',
    'http://127.9.9.9:8000',
    'http://[::1]:8000',
    'http://[::ffff:127.0.0.1]:8000',
    'http://localhost:8000',
    'https://LOCALHOST',
    'http://sim-worker-1:8000',
    'http://a.workers.internal:8000/base',
    'http://10.2.3.4',
  ])('%s is taken', (url) => {
    expect(list.accept(url)).toBeDefined();
  });

  it.each([
    'http://10.3.0.1:8000',
    'http://169.254.169.254/latest/meta-data',
    'http://workers.internal',
    'http://evilworkers.internal',
    'http://localhost.evil.example',
    'http://127.0.0.1.evil.example',
    'http://127.0.0.1@evil.example',
    'http://user:pw@127.0.0.1',
    'http://127.0.0.1/?x=1',
    'ftp://127.0.0.1',
    'file:///etc/passwd',
    'not a url',
    '',
  ])('no prompt is ever sent to %s', (url) => {
    expect(list.accept(url)).toBeUndefined();
  });

  it('another spelling of an address is judged as the address it is', () => {
    expect(list.accept('http://0x7f.1:80/')).toBe('http://127.0.0.1');
    expect(list.accept('http://167903236:80/')).toBe('http://10.2.0.4');
    expect(list.accept('http://2852039166/')).toBeUndefined();
  });

  it('the base URL has one form, so that the same worker is not two', () => {
    expect(list.accept('http://LOCALHOST:80/base//')).toBe('http://localhost/base');
  });

  it.each(['10.0.0.0/33', '10.0.0.0/x', '10.0.0.0/', 'a b', '*', ''])('the entry %p is refused at boot', (entry) => {
    expect(() => new AllowList([entry])).toThrow();
  });
});
