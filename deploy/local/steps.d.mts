export function say(line: string): void;
/** Runs one named step and tells how long it took; a failed one is marked and thrown on. */
export function step<T>(name: string, work: () => T | Promise<T>): Promise<T>;
