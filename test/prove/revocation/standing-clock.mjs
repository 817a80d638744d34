// Loaded into a gateway before anything else. After a SIGWINCH, which nobody else listens to, its monotonic clock does not
// count the time in which the process was stopped, as that of a machine that sleeps does not; the wall clock does.
const real = performance.now.bind(performance);
/** A running gateway asks for the time much more often. */
const STOPPED_MS = 150;
let armed = false;
let last = real();
let lost = 0;

process.on('SIGWINCH', () => {
  armed = true;
});
performance.now = () => {
  const now = real();
  if (armed && now - last > STOPPED_MS) lost += now - last;
  last = now;
  return now - lost;
};
