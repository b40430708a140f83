/**
 * Which files of an image from a source are whole, told by a file among them, so that the next attempt has only the rest sent. A line is a
 * claim, not a promise: whoever goes on reads the files again and believes only what they hold.
 */
import { closeSync, constants, fsyncSync, openSync, writeSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, formatLsn, type Lsn, parseLsn, RESTORE_PROGRESS_FILE } from '../../base/index.ts';
import { PAGE_BYTES, parseRelationPath } from '../../pg/index.ts';

/** Where an attempt's image begins. */
export interface ImageStart {
  readonly startLsn: Lsn;
  readonly timelineId: number;
}

export interface ArrivedFile {
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 in hex of what came. */
  readonly checksum: string;
}

/** The files of one attempt: as of its start, or later. */
interface ArrivedFiles {
  readonly start: ImageStart;
  readonly files: readonly ArrivedFile[];
}

/** What earlier attempts have left. */
export type Arrived =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'some'; readonly attempts: readonly ArrivedFiles[] }
  /** Everything came and was compared with its manifest; changes may still have to be put into the files that they belong to. */
  | { readonly kind: 'all'; readonly start: ImageStart }
  /** Ready, and its owner's. */
  | { readonly kind: 'finished'; readonly start: ImageStart };

/** What an image is of. One of another stream is nothing to go on with: log from its start on may be gone. */
export interface ImageIdentity {
  readonly systemIdentifier: bigint;
  readonly slot: string;
}

const FILE_LINE = /^([0-9a-f]{64}) (\d{1,10}) (.+)$/;
const START_LINE = /^([@*!]) (\d{1,10}) ([0-9A-F]{1,8}\/[0-9A-F]{1,8})$/;
const SIGN = { attempt: '@', all: '*', finished: '!' } as const;
/** As many as the longest manifest that is taken could name. */
const BYTES_MAX = 1024 * 1024 * 1024;

/**
 * Whether a file may be kept: the source can tell what has changed in it since. Of its relations' other forks that is not so: free space maps
 * are not logged, and what clears a bit of a visibility map does not name its page.
 */
export function mayBeKept({ path, bytes }: Pick<ArrivedFile, 'path' | 'bytes'>): boolean {
  return parseRelationPath(path)?.fork === 'main' && bytes > 0 && bytes % PAGE_BYTES === 0;
}

export class ReceiveProgress implements Disposable {
  readonly #descriptor: number;

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** A line that a crash cut off, or that cannot be read, says nothing, nor do those behind it. */
  static async find(directory: string, identity: ImageIdentity): Promise<Arrived> {
    const [first, ...lines] = (await readIfThere(join(directory, RESTORE_PROGRESS_FILE)))
      .split('\n')
      .slice(0, -1);
    if (first !== identityLine(identity)) return { kind: 'nothing' };
    const attempts: { start: ImageStart; files: ArrivedFile[] }[] = [];
    let end: Arrived | null = null;
    for (const line of lines) {
      const start = START_LINE.exec(line);
      const file = FILE_LINE.exec(line);
      if (start !== null) {
        const [, sign, timelineId, lsn = ''] = start;
        const at: ImageStart = { startLsn: parseLsn(lsn), timelineId: Number(timelineId) };
        if (sign === SIGN.attempt) attempts.push({ start: at, files: [] });
        else end = { kind: sign === SIGN.all ? 'all' : 'finished', start: at };
      } else if (file !== null && attempts.length > 0) {
        const [, checksum = '', bytes, path = ''] = file;
        attempts.at(-1)?.files.push({ path, bytes: Number(bytes), checksum });
      } else break;
    }
    if (end !== null) return end;
    return attempts.length === 0 ? { kind: 'nothing' } : { kind: 'some', attempts };
  }

  /** Takes the place of what earlier attempts have told; of their files it goes on with `kept`. */
  static async begin(
    directory: string,
    { identity, kept }: { identity: ImageIdentity; kept: readonly ArrivedFiles[] },
  ): Promise<ReceiveProgress> {
    const path = join(directory, RESTORE_PROGRESS_FILE);
    const lines = kept.flatMap(({ start, files }) => [
      startLine(SIGN.attempt, start),
      ...files.map(fileLine),
    ]);
    {
      await using file = await open(`${path}.new`, 'w', 0o600);
      await file.writeFile([identityLine(identity), ...lines, ''].join('\n'));
      await file.sync();
    }
    await rename(`${path}.new`, path);
    return ReceiveProgress.reopen(directory);
  }

  /** Goes on telling where an earlier attempt has ended. */
  static reopen(directory: string): ReceiveProgress {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW;
    return new ReceiveProgress(openSync(join(directory, RESTORE_PROGRESS_FILE), flags));
  }

  /** Files that are added from now on are of this attempt. */
  beginAttempt(start: ImageStart): void {
    this.#write(startLine(SIGN.attempt, start));
  }

  /** The file is whole. It need not be durable: a file that a power cut takes away is not what its line says. */
  add(file: ArrivedFile): void {
    if (mayBeKept(file)) this.#write(fileLine(file));
  }

  /** All that came is durable. */
  complete(start: ImageStart): void {
    this.#write(startLine(SIGN.all, start));
    fsyncSync(this.#descriptor);
  }

  finish(start: ImageStart): void {
    this.#write(startLine(SIGN.finished, start));
    fsyncSync(this.#descriptor);
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }

  #write(line: string): void {
    const bytes = Buffer.from(`${line}\n`);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#descriptor, bytes, at);
  }
}

function identityLine({ systemIdentifier, slot }: ImageIdentity): string {
  return `atoll image 1 ${systemIdentifier} ${slot}`;
}

function startLine(sign: string, { startLsn, timelineId }: ImageStart): string {
  return `${sign} ${timelineId} ${formatLsn(startLsn)}`;
}

function fileLine({ path, bytes, checksum }: ArrivedFile): string {
  return `${checksum} ${bytes} ${path}`;
}

async function readIfThere(path: string): Promise<string> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const { size } = await file.stat();
    return size > BYTES_MAX ? '' : await file.readFile('utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ELOOP') return '';
    throw error;
  }
}
