/** Whatever decides by time here is given its `Clock` by this token: a test can run a year in seconds. */
export const CLOCK = Symbol('clock');
