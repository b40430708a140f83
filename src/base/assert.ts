/** A broken invariant: a bug in Atoll, never a user's mistake. The process that sees one stops. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** States what must hold. @throws AssertionError */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Makes a `switch` over a union complete: a forgotten case does not compile. */
export function assertNever(value: never): never {
  throw new AssertionError(`unexpected variant: ${JSON.stringify(value)}`);
}

/** `value` when it is there. @throws AssertionError */
export function required<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new AssertionError(`missing ${what}`);
  return value;
}
