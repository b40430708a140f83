/** Places at which `jobs.debug.pausepoints` can hold a job, by the names of the original. */
export const PAUSE_POINTS = [
  'backup.before.flow',
  'restore.before_flow',
  'restore.before_publishing_descriptors',
  'restore.after_restore_failure',
] as const;

export type PausePoint = (typeof PAUSE_POINTS)[number];

/** What the setting holds: some of them, with commas between. */
export const PAUSE_POINTS_PATTERN = new RegExp(
  `^(${PAUSE_POINTS.map((point) => point.replaceAll('.', '\\.')).join('|')}|,|\\s)*$`,
);

/** Those that a value of the setting names. */
export function parsePausePoints(value: string): ReadonlySet<PausePoint> {
  const words = new Set(value.split(/[,\s]+/));
  return new Set(PAUSE_POINTS.filter((point) => words.has(point)));
}
