import { z } from 'zod';

export interface Bounds {
  readonly min?: number;
  readonly max: number;
}

/**
 * A list that is read up to its first bad element. zod's own array reads on and keeps a complaint of each: a body of ten
 * megabytes of nonsense would become gigabytes of complaints.
 */
export const listOf = <S extends z.ZodType>(element: S, { min = 0, max }: Bounds) =>
  z.unknown().transform((value, context): z.infer<S>[] => {
    const wrong = (message: string, path: PropertyKey[] = []) => {
      context.addIssue({ code: 'custom', message, path });
      return z.NEVER;
    };
    if (!Array.isArray(value)) return wrong('must be a list');
    if (value.length < min || value.length > max) return wrong(`must have ${min} to ${max} elements`);
    const read: z.infer<S>[] = [];
    for (const [at, one] of value.entries()) {
      const { data, error } = element.safeParse(one);
      if (error) return wrong(error.issues[0]!.message, [at, ...error.issues[0]!.path]);
      read.push(data);
    }
    return read;
  });
