/** The files of an image as they arrive, and whether they are what was sent. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, CorruptError, required } from '../../base/index.ts';
import { DATA_DIRECTORY_FOLDERS } from '../data-directory/rules.ts';
import { readManifest } from './base-manifest.ts';
import { incrementalTarget } from './incremental-file.ts';
import type { ArrivedFile } from './receive-progress.ts';
import { TarReader } from './tar-reader.ts';

const MANIFEST_BYTES_MAX = 1024 * 1024 * 1024;

export class ReceivedImage {
  readonly #directory: string;
  readonly #kept: ReadonlyMap<string, ArrivedFile>;
  readonly #onFile: (file: ArrivedFile) => void;
  readonly #hashes = new Map<string, string>();
  readonly #sizes = new Map<string, number>();
  /** Files that were kept and of which the source has sent the changes. */
  readonly #changed = new Set<string>();
  readonly #folders = new Set<string>();
  readonly #manifest: Buffer[] = [];
  #manifestBytes = 0;
  #tar: TarReader | null = null;
  #file: { path: string; descriptor: number; hash: Hash; bytes: number } | null = null;
  receivedBytes = 0n;
  /** Of what was kept, so much need not come again. */
  keptBytes = 0;

  constructor(
    directory: string,
    options: { kept: ReadonlyMap<string, ArrivedFile>; onFile: (file: ArrivedFile) => void },
  ) {
    this.#directory = directory;
    this.#kept = options.kept;
    this.#onFile = options.onFile;
  }

  /** Those that came, incremental ones among them. */
  get received(): readonly string[] {
    return [...this.#hashes.keys()];
  }

  /** Those that were here and still belong to the image. */
  get kept(): readonly string[] {
    return [...this.#changed];
  }

  /** Parents before children. */
  get folders(): readonly string[] {
    return [...this.#folders];
  }

  beginArchive(name: string): void {
    if (name !== 'base.tar' || this.#tar !== null) {
      throw new AppError('protocol_violation', 'the source sent more than its data directory');
    }
    for (const folder of DATA_DIRECTORY_FOLDERS) this.#makeFolder(folder);
    this.#tar = new TarReader((event) => {
      if (event.kind === 'folder') this.#makeFolder(event.path);
      else if (event.kind === 'file') this.#beginFile(event.path);
      else if (event.kind === 'content') this.#write(event.bytes);
      else this.#endFile();
    });
  }

  beginManifest(): void {
    if (this.#tar?.isWhole === false) throw new CorruptError('the image from the source ends inside a file');
    this.#tar = null;
  }

  push(bytes: Buffer): void {
    this.receivedBytes += BigInt(bytes.length);
    if (this.#tar !== null) return this.#tar.push(bytes);
    this.#manifestBytes += bytes.length;
    if (this.#manifestBytes > MANIFEST_BYTES_MAX) {
      throw new AppError('limit_exceeded', 'the manifest of the source is too long');
    }
    this.#manifest.push(bytes);
  }

  /** Every file that the source has sent is here, byte for byte, and no other that was sent. @throws CorruptError */
  checkManifest(): void {
    const listed = readManifest(Buffer.concat(this.#manifest).toString('utf8'));
    for (const { path, size, checksum } of listed) {
      if (this.#sizes.get(path) !== size || this.#hashes.get(path) !== checksum) {
        throw new CorruptError(`file ${path} is not what the source sent`, {
          hint: 'it is fetched again; if it happens again, look at the network between the two',
        });
      }
    }
    const known = new Set(listed.map(({ path }) => path));
    // The manifest tells of itself nothing.
    const foreign = this.received.find((path) => !known.has(path));
    if (foreign !== undefined) throw new CorruptError(`file ${foreign} is not in the manifest of the source`);
  }

  /** What was kept and is not in the source any more, or came whole. */
  removeGone(): void {
    for (const path of this.#kept.keys()) {
      const stays = this.#changed.has(path) || this.#hashes.has(path);
      if (!stays) rmSync(join(this.#directory, path));
    }
  }

  #makeFolder(path: string): void {
    mkdirSync(join(this.#directory, path), { recursive: true, mode: 0o700 });
    this.#folders.add(path);
  }

  #beginFile(path: string): void {
    this.#expect(path);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const descriptor = openSync(join(this.#directory, path), flags, 0o600);
    this.#file = { path, descriptor, hash: createHash('sha256'), bytes: 0 };
  }

  /** A file that was kept comes either whole, or as what has changed in it. */
  #expect(path: string): void {
    if (this.#kept.has(path)) rmSync(join(this.#directory, path), { force: true });
    const target = incrementalTarget(path);
    if (target === null) return;
    const before = this.#kept.get(target);
    if (before === undefined || this.#hashes.has(target)) {
      throw new AppError('protocol_violation', `the source sent changes of ${target}, which is not here`);
    }
    this.#changed.add(target);
    this.keptBytes += before.bytes;
  }

  #write(bytes: Uint8Array): void {
    const file = required(this.#file, 'file that is being received');
    file.hash.update(bytes);
    file.bytes += bytes.length;
    for (let at = 0; at < bytes.length; ) at += writeSync(file.descriptor, bytes, at);
  }

  #endFile(): void {
    const { path, descriptor, hash, bytes } = required(this.#file, 'file that is being received');
    closeSync(descriptor);
    this.#file = null;
    const checksum = hash.digest('hex');
    this.#hashes.set(path, checksum);
    this.#sizes.set(path, bytes);
    this.#onFile({ path, bytes, checksum });
  }
}
