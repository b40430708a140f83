import { readFileSync } from 'node:fs';

/** The version of this release, e.g. `26.2.0`. */
export function productVersion(): string {
  const description: unknown = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  const isDescribed = typeof description === 'object' && description !== null && 'version' in description;
  return isDescribed ? String(description.version) : 'unknown';
}
