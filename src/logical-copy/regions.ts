/**
 * Regions of a database: a setting of the database's own, which Postgres carries through renames, images and followers, and forgets with the
 * database. Of a name that only a superuser can set for a database, so what stands there is ours. docs/decisions/0120-regions-and-zones.md
 */
import { quoted } from './session.ts';

/** Names parted by commas, the primary region first. No name of a region holds a comma. */
export const REGIONS_SETTING = 'atoll.regions';

/** @param settings `name=value` each. Empty for a database without regions. */
export function regionsOf(settings: readonly string[]): readonly string[] {
  const prefix = `${REGIONS_SETTING}=`;
  const setting = settings.find((each) => each.startsWith(prefix));
  return setting === undefined ? [] : setting.slice(prefix.length).split(',');
}

/** The value of the setting. */
export function regionsText(regions: readonly string[]): string {
  return regions.join(',');
}

/** As SHOW BACKUP tells them; null for a database without regions. */
export function regionStatements(database: string, regions: readonly string[]): string | null {
  const [primary, ...others] = regions;
  if (primary === undefined) return null;
  const alter = `ALTER DATABASE ${quoted(database)}`;
  return [
    `${alter} SET PRIMARY REGION ${quoted(primary)};`,
    ...others.map((region) => `${alter} ADD REGION ${quoted(region)};`),
  ].join(' ');
}
