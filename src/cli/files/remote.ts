/** Files of `userfile` and `nodelocal` storage as a client sees them: sent and fetched piece by piece over the SQL port. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import pg from 'pg';
import { AppError, InputError } from '../../base/index.ts';
import type { CommandContext } from '../command.ts';
import { formatError, formatNotice } from '../sql/error-text.ts';
import { askPassword } from '../sql/password.ts';
import { SqlSession } from '../sql/session.ts';
import type { ConnectionTarget } from '../sql/target.ts';

/** What one statement carries. */
const PIECE_BYTES = 512 * 1024;

export interface RemoteFile {
  readonly uri: string;
  readonly sizeBytes: number;
}

/** Told after each piece. */
export type OnProgress = (progress: { readonly bytes: number; readonly totalBytes: number }) => void;

/**
 * Does something in a session of its own. Resolves with the exit code: 1 when the server refuses a statement, which is told.
 * @throws AppError `connection_failure`, or the server's own error when it refuses the login
 */
export async function inSession(
  target: ConnectionTarget,
  { stderr }: Pick<CommandContext, 'stderr'>,
  work: (session: SqlSession) => Promise<void>,
): Promise<number> {
  await using session = await SqlSession.connect(
    { ...target, applicationName: 'atoll files' },
    {
      askPassword: () => askPassword({ user: target.user }),
      onNotice: (notice) => void stderr.write(formatNotice(notice)),
      onNotification: () => undefined,
    },
  );
  try {
    await work(session);
    return 0;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    stderr.write(formatError(error));
    return 1;
  }
}

/** Sends a file; there it is seen whole or not at all. Gives its URI, written out. @throws the server's error */
export async function sendFile(
  session: SqlSession,
  { path, uri }: { readonly path: string; readonly uri: string },
  onProgress: OnProgress,
): Promise<string> {
  await using file = await openSource(path);
  const { size: totalBytes } = await file.stat();
  const begun = await session.query('CREATE FILE UPLOAD INTO $1', [uri]);
  const [id, writtenOut] = begun.rows[0] ?? [];
  if (typeof id !== 'string' || typeof writtenOut !== 'string') throw noFileServer();
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.alloc(PIECE_BYTES);
    for (let bytes = 0; ; ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, bytes);
      if (bytesRead === 0) break;
      const piece = buffer.subarray(0, bytesRead);
      hash.update(piece);
      const content = piece.toString('base64');
      await session.query('ALTER FILE UPLOAD $1 APPEND $2 AT $3', [id, content, String(bytes)]);
      bytes += bytesRead;
      onProgress({ bytes, totalBytes: Math.max(bytes, totalBytes) });
    }
    await session.query('ALTER FILE UPLOAD $1 FINISH WITH CHECKSUM $2', [id, hash.digest('hex')]);
  } catch (error) {
    await session.query('ALTER FILE UPLOAD $1 CANCEL', [id]).catch(() => undefined);
    throw error;
  }
  return writtenOut;
}

/** A link that is named outright is followed: it is the caller's own. @throws InputError `usage` */
async function openSource(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    throw new InputError('usage', `cannot read ${path}: ${String(cause)}`, { cause });
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new InputError('usage', `${path} is no file`, { hint: 'a folder is uploaded by userfile upload -r' });
}

/** All files below a URI that ends in a slash, in order. @throws the server's error */
export async function listFiles(session: SqlSession, uri: string): Promise<readonly RemoteFile[]> {
  const { rows } = await session.query('SHOW FILES IN $1', [uri]);
  return rows.map(([name, sizeBytes]) => ({ uri: name ?? '', sizeBytes: Number(sizeBytes) }));
}

/**
 * Fetches a file into a new one, which appears when it is whole.
 * @throws InputError `usage` when there is one already; the server's error
 */
export async function fetchFile(
  session: SqlSession,
  { uri, path }: { readonly uri: string; readonly path: string },
  onProgress: OnProgress,
): Promise<void> {
  const partial = `${path}.partial`;
  const file = await open(partial, 'wx').catch((cause: unknown) => {
    throw new AppError('io', `cannot write ${partial}: ${String(cause)}`, { cause });
  });
  try {
    await using writing = file;
    for (let bytes = 0; ; ) {
      const { rows } = await session.query('SHOW FILE $1 AT $2', [uri, String(bytes)]);
      const [size, content] = rows[0] ?? [];
      if (typeof size !== 'string' || typeof content !== 'string') throw noFileServer();
      const piece = Buffer.from(content, 'base64');
      await writing.appendFile(piece);
      bytes += piece.length;
      onProgress({ bytes, totalBytes: Number(size) });
      if (bytes === Number(size)) break;
      if (piece.length === 0) throw new AppError('io', `${uri} ended at ${bytes} of ${size} bytes`);
    }
    await writing.sync();
    // Unlike a rename it never replaces a file.
    await link(partial, path).catch((cause: unknown) => {
      throw new InputError('usage', `cannot make ${path}: ${String(cause)}`, {
        cause,
        hint: 'name another place, or move what is there',
      });
    });
  } finally {
    await unlink(partial);
  }
  await using folder = await open(dirname(path), 'r');
  await folder.sync();
}

function noFileServer(): AppError<'format_unsupported'> {
  return new AppError('format_unsupported', 'the server does not keep files', { hint: 'is it Atoll?' });
}
