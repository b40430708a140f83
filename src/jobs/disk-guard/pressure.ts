/** How full the disk of the stores is, and what has to give way. Pure. */

/** From the least to the worst; each includes what the ones before it do. docs/decisions/0036-disk-pressure.md */
export const PRESSURE_LEVELS = ['none', 'slots', 'window', 'captures', 'read_only', 'ballast'] as const;

export type PressureLevel = (typeof PRESSURE_LEVELS)[number];

/** Bytes on the disk of the stores: what is free, and what of it shall stay so. */
export interface DiskRoom {
  readonly freeBytes: bigint;
  readonly freeBytesMin: bigint;
}

export function pressureOf({ freeBytes, freeBytesMin }: DiskRoom): PressureLevel {
  if (freeBytes * 8n < freeBytesMin) return 'ballast';
  if (freeBytes * 2n < freeBytesMin) return 'read_only';
  if (freeBytes < freeBytesMin) return 'captures';
  if (freeBytes < freeBytesMin * 2n) return 'window';
  return freeBytes < freeBytesMin * 3n ? 'slots' : 'none';
}

export function isAtLeast(level: PressureLevel, other: PressureLevel): boolean {
  return PRESSURE_LEVELS.indexOf(level) >= PRESSURE_LEVELS.indexOf(other);
}

/** Growth that is worth being stopped for: less is what an idle virtual cluster writes by itself. */
export const GROWTH_BYTES_MIN = 1024n * 1024n;

/** Which of them takes the room: the one that has grown most since it was measured last; undefined when none has grown. */
export function greatestGrower<Id>(
  sizes: ReadonlyMap<Id, { readonly before: bigint; readonly now: bigint }>,
): Id | undefined {
  let found: Id | undefined;
  let most = GROWTH_BYTES_MIN - 1n;
  for (const [id, { before, now }] of sizes) {
    if (now - before <= most) continue;
    most = now - before;
    found = id;
  }
  return found;
}
