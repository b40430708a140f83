import { isAbsolute, resolve } from 'node:path';
import { InputError } from '../../base/index.ts';
import type { Address, LocalityTier } from '../../daemon/index.ts';

/**
 * Reads `host:port`, `host`, `:port`, `[::1]:port`. What is missing comes from the default; a host left out before a
 * port means all addresses, as usual with this notation.
 * @throws InputError `usage`
 */
export function readAddress(text: string, fallback: { port: number }): Address {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:[\]/]*))(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[3] === undefined ? fallback.port : Number(match[3]);
  if (match === null || text === '' || port > 65535) {
    throw new InputError('usage', `not an address: ${JSON.stringify(text)}`, {
      hint: 'write host:port, e.g. localhost:26257, [::1]:26257 or :26257 for all addresses',
    });
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

/** An absolute path, made from the working directory. @throws InputError `usage` */
export function readPath(text: string): string {
  if (text === '' || text.includes('\0')) {
    throw new InputError('usage', `not a path: ${JSON.stringify(text)}`);
  }
  return isAbsolute(text) ? resolve(text) : resolve(process.cwd(), text);
}

/** A whole number within bounds. @throws InputError `usage` */
export function readInteger(text: string, bounds: { min: number; max: number }): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= bounds.min && value <= bounds.max)) {
    throw new InputError(
      'usage',
      `not a whole number from ${bounds.min} to ${bounds.max}: ${JSON.stringify(text)}`,
    );
  }
  return value;
}

/** One of some words. @throws InputError `usage` */
export function readChoice<const T extends string>(text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) {
    throw new InputError('usage', `unknown value ${JSON.stringify(text)}`, {
      hint: `use one of: ${choices.join(', ')}`,
    });
  }
  return found;
}

/** Reads `region=eu,zone=a`: tiers from wide to narrow, each key once. @throws InputError `usage` */
export function readLocality(text: string): readonly LocalityTier[] {
  const tiers = text.split(',').map((part) => {
    const match = /^([\w-]+)=([\w.-]+)$/.exec(part.trim());
    if (match?.[1] === undefined || match[2] === undefined) {
      throw new InputError('usage', `not a locality: ${JSON.stringify(text)}`, {
        hint: 'write tiers from wide to narrow, e.g. region=eu-west,zone=a',
      });
    }
    return { key: match[1], value: match[2] };
  });
  const keys = new Set(tiers.map((tier) => tier.key));
  if (keys.size !== tiers.length)
    throw new InputError('usage', `a tier is named twice: ${JSON.stringify(text)}`);
  return tiers;
}

/** Reads `NAME:USER,...`; a name may stand for several users. @throws InputError `usage` */
export function readPrincipalMap(text: string): ReadonlyMap<string, readonly string[]> {
  const users = new Map<string, string[]>();
  for (const part of text.split(',')) {
    const at = part.lastIndexOf(':');
    const name = part.slice(0, at).trim();
    const user = part.slice(at + 1).trim();
    if (at < 0 || name === '' || user === '') {
      throw new InputError('usage', `not a map of principals: ${JSON.stringify(text)}`, {
        hint: 'write NAME:USER pairs with commas between them, e.g. batch.example.com:batch',
      });
    }
    users.set(name, [...(users.get(name) ?? []), user]);
  }
  return users;
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** A hundred years and a bit. */
const DURATION_MS_MAX = 36_600 * 86_400_000;

/** Reads `8760h`, `1h30m`, `90d`. @throws InputError `usage` */
export function readDurationMs(text: string): number {
  const parts = [...text.matchAll(/(\d{1,9})([smhd])/g)];
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_MS[unit ?? ''] ?? 0), 0);
  if (/^(?:\d{1,9}[smhd])+$/.test(text) && ms > 0 && ms <= DURATION_MS_MAX) return ms;
  throw new InputError('usage', `not a duration: ${JSON.stringify(text)}`, {
    hint: 'write a number with a unit, e.g. 8760h or 365d',
  });
}

const UNIT_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/** Reads `16MiB`, `1GiB`, `65536`, in bytes. @throws InputError `usage` */
export function readByteSize(text: string, bounds: { min: number; max: number }): number {
  const match = /^(\d{1,9})(B|KiB|MiB|GiB|TiB)?$/.exec(text);
  const bytes = Number(match?.[1] ?? Number.NaN) * (UNIT_BYTES[match?.[2] ?? 'B'] ?? Number.NaN);
  if (bytes >= bounds.min && bytes <= bounds.max) return bytes;
  throw new InputError(
    'usage',
    `not a size from ${bounds.min} to ${bounds.max} bytes: ${JSON.stringify(text)}`,
    {
      hint: 'write a number with a unit, e.g. 16MiB or 1GiB',
    },
  );
}
