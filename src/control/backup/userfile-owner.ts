/**
 * Files in userfile storage belong to a role, not to its name: who is made anew under the name of somebody who was dropped does not find what that
 * one has left. The first use of a folder records whose it is.
 */
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CorruptError, errnoOf, type IncarnationId, parseIncarnationId, type Rng } from '../../base/index.ts';
import { userfileOwnerFile } from '../../blob/index.ts';
import type { Core } from '../core.ts';
import type { Asker } from '../privileges/privileges.ts';
import { lineageOf } from '../replication/replication-producer.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/** Numbers of roles mean something in one history of the data. */
interface Identity {
  readonly incarnation: IncarnationId;
  readonly oid: number;
}

const identitySchema = z.strictObject({
  version: z.literal(1),
  incarnation: z.string().transform((text): IncarnationId => parseIncarnationId(text)),
  oid: z.int().positive(),
});

/** Of a folder, and who has the name of its owner now: that one, somebody else, or nobody. */
export type UserfileHolder = 'owner' | 'another' | 'nobody';

/**
 * Records the role as the owner when the folder has none yet, or holds no files any more.
 * @throws CorruptError for a damaged record
 */
export async function holderOfUserfiles(
  core: Core,
  { owner, asker }: { readonly owner: string; readonly asker: Asker },
): Promise<UserfileHolder> {
  const { incarnation, virtualClusterId } = asker.instance.identity;
  const oid = await oidOf(owner, asker);
  if (oid === null) return 'nobody';
  const directory = join(core.options.userfileDirectory, String(virtualClusterId));
  const { recordPath, folder } = userfileOwnerFile(owner, { directory });
  const recorded = await readIdentity(recordPath);
  const isOurs = recorded?.oid === oid && (await isOfOurHistory(core, recorded, asker));
  if (recorded !== null && !isOurs && (await holdsFiles(folder))) return 'another';
  if (!isOurs) await writeIdentity(recordPath, { incarnation, oid }, core.options);
  return 'owner';
}

async function oidOf(role: string, asker: Asker): Promise<number | null> {
  const [row] = await asker.instance.withSystemClient(
    (client) => client.query('select oid from pg_catalog.pg_roles where rolname = $1', [role]),
    asker,
  );
  return row === undefined ? null : Number(row['oid']);
}

/** Data that came from elsewhere has other people under the same numbers. */
async function isOfOurHistory(core: Core, { incarnation }: Identity, { instance }: Asker): Promise<boolean> {
  if (incarnation === instance.identity.incarnation) return true;
  const record = requireRecord(core, instance.identity.virtualClusterId);
  return (await lineageOf(core, { record, instance })).some((life) => life.incarnation === incarnation);
}

async function readIdentity(path: string): Promise<Identity | null> {
  try {
    return identitySchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw new CorruptError('the record of who owns a folder of userfile storage is damaged', {
      cause: error,
    });
  }
}

/** Those who come at the same time write the same. */
async function writeIdentity(path: string, identity: Identity, { rng }: { rng: Rng }): Promise<void> {
  const directory = dirname(path);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const temporary = `${path}.${Buffer.from(rng.bytes(8)).toString('hex')}`;
  {
    await using file = await open(temporary, 'wx', 0o600);
    await file.writeFile(JSON.stringify({ version: 1, ...identity }));
    await file.sync();
  }
  await rename(temporary, path);
  await using folder = await open(directory, 'r');
  await folder.sync();
}

/** Also what is not finished yet. */
async function holdsFiles(folder: string): Promise<boolean> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries.some((entry) => !entry.isDirectory());
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
