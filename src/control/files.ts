/** CREATE and ALTER FILE UPLOAD, DROP FILE, SHOW FILES, SHOW FILE: what `atoll userfile` and `atoll nodelocal` say. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, InputError, type VirtualClusterId } from '../base/index.ts';
import {
  type BlobKey,
  type BlobStore,
  formatUserfileUri,
  nodelocalBlobStore,
  parseBlobKey,
  parseUserfileUri,
} from '../blob/index.ts';
import type { Statement, Value } from '../sql/index.ts';
import { openCollectionStore } from '../timeline/index.ts';
import { requireLocationAccess } from './backup/collection.ts';
import type { ExecuteContext } from './contract.ts';
import { type ControlOptions, type Core, loggerOf } from './core.ts';
import { PIECE_BYTES_MAX, type UploadOwner } from './file-uploads.ts';
import { type UseCase, columnsOf, done, rowsResult } from './use-case.ts';
import { notAvailable, textValue } from './values.ts';

type Of<Kind extends Statement['kind']> = Extract<Statement, { kind: Kind }>;

const UPLOAD = columnsOf({ upload_id: 'text', uri: 'text' });
const FILES = columnsOf({ uri: 'text', size_bytes: 'int8' });
const PIECE = columnsOf({ size_bytes: 'int8', content: 'text' });
/** Of one answer, which is held in memory. */
const LISTED_MAX = 100_000;

export const createFileUpload: UseCase<Of<'create_file_upload'>> = {
  columns: () => UPLOAD,
  refusedInTransaction: 'CREATE FILE UPLOAD',
  async run(core, { uri: value }, context) {
    const { store, key, uri, disk } = await openFile(core, value, context);
    // It lives on behind the statement, until it is finished, cancelled or given up.
    const begin = () => store.beginUpload(key, { signal: core.signal });
    const id = await core.uploads.begin(ownerOf(context), { disk, begin });
    const { virtualClusterId, virtualClusterName, user } = context.session;
    loggerOf(core, { id: virtualClusterId, name: virtualClusterName }).info(
      `upload of ${uri} begun by ${user}`,
    );
    return rowsResult(UPLOAD, [[id, uri]], 'CREATE FILE UPLOAD');
  },
};

export const alterFileUpload: UseCase<Of<'alter_file_upload'>> = {
  columns: () => undefined,
  refusedInTransaction: 'ALTER FILE UPLOAD',
  async run(core, { uploadId, action }, context) {
    const owner = ownerOf(context);
    const id = textValue(uploadId, 'the id of an upload');
    switch (action.kind) {
      case 'append': {
        const piece = base64Value(action.content);
        await core.uploads.append(owner, { id, piece, offset: offsetValue(action.offset) });
        break;
      }
      case 'finish':
        await core.uploads.finish(owner, { id, checksum: textValue(action.checksum, 'a checksum') });
        break;
      case 'cancel':
        await core.uploads.cancel(owner, id);
    }
    return done('ALTER FILE UPLOAD');
  },
};

export const dropFile: UseCase<Of<'drop_file'>> = {
  columns: () => undefined,
  refusedInTransaction: 'DROP FILE',
  async run(core, { uri: value }, context) {
    const { store, key, uri } = await openUserfile(core, value, context);
    const { signal } = context;
    if ((await store.size(key, { signal })) === null) throw noSuchFile(uri);
    await store.delete(key, { signal });
    return done('DROP FILE');
  },
};

export const showFiles: UseCase<Of<'show_files'>> = {
  columns: () => FILES,
  refusedInTransaction: undefined,
  async run(core, { uri: value }, context) {
    const { store, owner, parts } = await openRoot(core, value, context);
    const folder = parts.length === 0 ? '' : parseBlobKey(parts.join('/'));
    const rows: [string, string][] = [];
    for await (const entry of store.list(folder, { deep: true, signal: context.signal })) {
      if (entry.kind !== 'blob') continue;
      if (rows.length === LISTED_MAX) {
        throw new AppError('limit_exceeded', `there are more than ${LISTED_MAX} files`, {
          hint: 'list a folder of them',
        });
      }
      rows.push([formatUserfileUri(owner, entry.key.split('/')), String(entry.sizeBytes)]);
    }
    return rowsResult(FILES, rows);
  },
};

export const showFile: UseCase<Of<'show_file'>> = {
  columns: () => PIECE,
  refusedInTransaction: undefined,
  async run(core, { uri: value, offset: from }, context) {
    const { store, key, uri } = await openUserfile(core, value, context);
    const { signal } = context;
    const offset = offsetValue(from);
    const sizeBytes = await store.size(key, { signal });
    if (sizeBytes === null) throw noSuchFile(uri);
    if (offset > sizeBytes) throw new InputError('parameter_invalid', `${uri} has ${sizeBytes} bytes`);
    const length = Math.min(PIECE_BYTES_MAX, sizeBytes - offset);
    const chunks: Uint8Array[] = [];
    for await (const chunk of store.get(key, { range: { offset, length }, signal })) chunks.push(chunk);
    return rowsResult(PIECE, [[String(sizeBytes), Buffer.concat(chunks).toString('base64')]]);
  },
};

interface OpenFile {
  readonly store: BlobStore;
  readonly key: BlobKey;
  /** Written out, as it may be shown. */
  readonly uri: string;
  /** A folder of the disk that the file is on. */
  readonly disk: string;
}

/** @throws InputError `insufficient_privilege`, `parameter_invalid`, `name_invalid` */
async function openFile(core: Core, value: Value, context: ExecuteContext): Promise<OpenFile> {
  const text = textValue(value, 'the URI of a file');
  if (parseUserfileUri(text) !== undefined) return openUserfile(core, value, context);
  const match = /^(nodelocal:\/\/[^/?#]+\/)([^?#]+)$/i.exec(text);
  const [, root, path = ''] = match ?? [];
  if (root === undefined) {
    throw notAvailable('uploading to this URI', 'available: userfile:///path, nodelocal://1/path');
  }
  const place = await core.resolvePlace(context.session.virtualClusterId, root);
  await requireLocationAccess(core, context, place);
  const parts = path.split('/').map(decoded);
  const uri = `${place.displayUri}${parts.map(encodeURIComponent).join('/')}`;
  const disk = core.options.externalDirectory ?? core.options.userfileDirectory;
  return { store: openCollectionStore(place, core.options), key: parseBlobKey(parts.join('/')), uri, disk };
}

async function openUserfile(core: Core, value: Value, context: ExecuteContext): Promise<OpenFile> {
  const { store, owner, parts } = await openRoot(core, value, context);
  const key = parseBlobKey(parts.join('/'));
  return { store, key, uri: formatUserfileUri(owner, parts), disk: core.options.userfileDirectory };
}

/** All files of a user, whichever of them the URI names. @throws InputError `insufficient_privilege` for those of others */
async function openRoot(core: Core, value: Value, context: ExecuteContext) {
  const found = parseUserfileUri(textValue(value, 'the URI of a file'));
  if (found === undefined || found.query !== '') {
    throw notAvailable('listing, reading or deleting files of this URI', 'available: userfile:///path');
  }
  const { parts, owner: named } = found;
  const owner = named ?? context.session.user;
  const root = formatUserfileUri(owner, []);
  const place = await core.resolvePlace(context.session.virtualClusterId, root);
  await requireLocationAccess(core, context, place);
  return { store: openCollectionStore(place, core.options), owner, parts };
}

/** Where the files of all users of a virtual cluster are. */
export function userfilesOf(
  { userfileDirectory }: Pick<ControlOptions, 'userfileDirectory'>,
  id: VirtualClusterId,
): string {
  return join(userfileDirectory, String(id));
}

/** Of a virtual cluster that is removed. May run twice. */
export async function removeUserfiles(core: Pick<Core, 'options'>, id: VirtualClusterId): Promise<void> {
  await rm(userfilesOf(core.options, id), { recursive: true, force: true });
}

/** Frees what uploads left when the daemon died. Nobody is let in yet. */
export async function discardFileUploads({ options, signal }: Core): Promise<void> {
  const { userfileDirectory: directory, rng } = options;
  const store = nodelocalBlobStore({ directory, displayUri: 'userfile://', rng });
  await store.discardUploads('', { signal });
}

function ownerOf({ session }: ExecuteContext): UploadOwner {
  return { virtualClusterId: session.virtualClusterId, user: session.user };
}

function noSuchFile(uri: string): InputError {
  return new InputError('object_not_found', `there is no file ${uri}`);
}

/** @throws InputError `parameter_invalid` */
function base64Value(value: Value): Buffer {
  const text = textValue(value, 'a piece of a file');
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') === text) return bytes;
  throw new InputError('parameter_invalid', 'a piece of a file must be in base64, with its padding');
}

/** @throws InputError `parameter_invalid` */
function offsetValue(value: Value): number {
  const text = textValue(value, 'an offset');
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InputError('parameter_invalid', 'an offset is a number of bytes');
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InputError('parameter_invalid', 'the URI has a malformed %-escape', {
      hint: 'write a "%" as %25',
    });
  }
}
