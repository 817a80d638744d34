// Loaded into a gateway before anything of it: whenever a sync of its journal has come back, the ids of the requests whose
// END it covers are in FSYNC_TRACE, before anybody who waited for the sync goes on. Each comes back late, so that whoever
// does not wait is seen.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const LATE_MS = 8;
const LINE_END = 0x0a;

const trace = fs.openSync(process.env.FSYNC_TRACE, 'a');
/** How far each file is in the trace. */
const traced = new Map();

/** The journals that are open, by descriptor. */
const journals = new Map();

const { openSync, fdatasync } = fs;
fs.openSync = (path, ...rest) => {
  const file = openSync(path, ...rest);
  if (String(path).endsWith('.journal')) journals.set(file, String(path));
  else journals.delete(file);
  return file;
};
fs.fdatasync = (file, done) => {
  const path = journals.get(file);
  if (path === undefined) return fdatasync(file, done);
  const { size } = fs.fstatSync(file);
  fdatasync(file, (error) => {
    setTimeout(() => {
      if (!error) note(path, size);
      done(error);
    }, Math.random() * LATE_MS);
  });
};
syncBuiltinESMExports();

/** The ENDs of a file up to `size`, as far as they are not noted yet. */
function note(path, size) {
  const from = traced.get(path) ?? 0;
  if (size <= from) return;
  const bytes = Buffer.alloc(size - from);
  const file = openSync(path, 'r');
  fs.readSync(file, bytes, 0, bytes.length, from);
  fs.closeSync(file);
  const end = bytes.lastIndexOf(LINE_END) + 1;
  traced.set(path, from + end);
  const ids = bytes
    .toString('utf8', 0, end)
    .split('\n')
    .filter((line) => line.startsWith('E '))
    .map((line) => `${line.split(' ', 3)[2]}\n`);
  fs.writeSync(trace, ids.join(''));
}
