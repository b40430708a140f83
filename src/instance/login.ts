/**
 * As whom, and where, Atoll itself logs in. In data that was made here that is `atoll` in `system`. In data of a plain PostgreSQL server it is
 * whatever the superuser is called there who has OID 10, and a database that every server has. His name is read from the files, before
 * anybody can be asked; whoever logs in checks it.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PAGE_BYTES, parseRelationMap } from '../pg/index.ts';

export interface Login {
  readonly user: string;
  readonly database: string;
}

/** In every data directory that was made here, or has become one of ours. */
export const OWN_LOGIN: Login = { user: 'atoll', database: 'system' };

/** Databases that a server is born with, besides `template0`, which nobody can connect to. */
export const BORN_DATABASES = ['postgres', 'template1'] as const;

const AUTHID_OID = 1260;
const SUPERUSER_OID = 10;
const NAME_BYTES = 64;
const PAGE_HEADER_BYTES = 24;
const LINE_NORMAL = 1;
/** Of the files of roles, so much is read: the superuser is the first of them, and is put on another page only by hundreds of changes. */
const PAGES_MAX = 1024;

export function isOwnLogin({ user, database }: Login): boolean {
  return user === OWN_LOGIN.user && database === OWN_LOGIN.database;
}

/** What may be tried, the likeliest first. Names may be out of date, but not for long: they are those of the last checkpoint. */
export async function readLogins(dataDirectory: string): Promise<readonly Login[]> {
  // Of files that are damaged or missing the server itself tells more than we could.
  const names = await readSuperuserNames(dataDirectory).catch(() => []);
  const inBorn = (user: string) => BORN_DATABASES.map((database) => ({ user, database }));
  const foreign = names.filter((name) => name !== OWN_LOGIN.user);
  // The last are those of a server that was cut off on its way to become one of ours.
  return [...foreign.flatMap(inBorn), OWN_LOGIN, ...inBorn(OWN_LOGIN.user)];
}

/** Present and former names of the role with OID 10, as they lie in the files of `pg_authid`. */
async function readSuperuserNames(dataDirectory: string): Promise<readonly string[]> {
  const directory = join(dataDirectory, 'global');
  const mapFile = join(directory, 'pg_filenode.map');
  const mapped = parseRelationMap(await readFile(mapFile), mapFile);
  const filenode = mapped.find(({ oid }) => oid === AUTHID_OID)?.filenode;
  if (filenode === undefined) return [];
  const bytes = await readFile(join(directory, String(filenode)));
  const names = new Set<string>();
  for (let at = 0; at + PAGE_BYTES <= bytes.length && at < PAGES_MAX * PAGE_BYTES; at += PAGE_BYTES) {
    for (const name of superuserNamesOn(bytes.subarray(at, at + PAGE_BYTES))) names.add(name);
  }
  return [...names];
}

/** A page of `pg_authid`: each row begins with its OID and its name, which are never null. What cannot be a row is passed over. */
export function superuserNamesOn(page: Buffer): readonly string[] {
  const names: string[] = [];
  const linesEnd = Math.min(page.readUInt16LE(12), PAGE_BYTES);
  for (let at = PAGE_HEADER_BYTES; at + 4 <= linesEnd; at += 4) {
    const line = page.readUInt32LE(at);
    const begin = line & 0x7fff;
    if (((line >>> 15) & 3) !== LINE_NORMAL || begin + 23 > PAGE_BYTES) continue;
    const data = begin + page.readUInt8(begin + 22);
    if (data + 4 + NAME_BYTES > PAGE_BYTES || page.readUInt32LE(data) !== SUPERUSER_OID) continue;
    const name = page.subarray(data + 4, data + 4 + NAME_BYTES);
    const end = name.indexOf(0);
    names.push(name.toString('utf8', 0, end === -1 ? NAME_BYTES : end));
  }
  return names;
}
