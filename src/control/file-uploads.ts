/** Files on their way from a client into storage, piece by piece. Nothing is seen of one before it is finished. */
import { createHash, type Hash } from 'node:crypto';
import { statfs } from 'node:fs/promises';
import {
  AppError,
  type Clock,
  CorruptError,
  InputError,
  type Rng,
  type VirtualClusterId,
} from '../base/index.ts';
import type { BlobUpload } from '../blob/index.ts';

/** Of one file. */
export const UPLOAD_BYTES_MAX = 1024 ** 3;
/** A message for a statement of ours has at most 1 MiB, of which base64 leaves three quarters. */
export const PIECE_BYTES_MAX = 512 * 1024;
const OPEN_MAX = 64;
const OPEN_OF_USER_MAX = 8;
/** One that heard nothing for so long is given up. */
const IDLE_MS_MAX = 600_000;
/** What uploads leave of a disk to those who cannot do without. */
const FREE_BYTES_MIN = 128 * 1024 ** 2;

export interface UploadOwner {
  readonly virtualClusterId: VirtualClusterId;
  readonly user: string;
}

interface Open extends UploadOwner {
  readonly id: string;
  readonly upload: BlobUpload;
  readonly hash: Hash;
  /** Of the disk that it goes to. */
  readonly disk: string;
  bytes: number;
  usedMs: number;
  isBusy: boolean;
}

export class FileUploads {
  readonly #open = new Map<string, Open>();
  readonly #clock: Clock;
  readonly #rng: Rng;
  #beginning = 0;

  constructor({ clock, rng }: { readonly clock: Clock; readonly rng: Rng }) {
    this.#clock = clock;
    this.#rng = rng;
  }

  /** @throws AppError `limit_exceeded`, and what `begin` is refused for */
  async begin(
    owner: UploadOwner,
    { disk, begin }: { readonly disk: string; readonly begin: () => Promise<BlobUpload> },
  ): Promise<string> {
    await this.#giveUpIdle();
    const own = [...this.#open.values()].filter((open) => isOf(open, owner)).length;
    if (this.#open.size + this.#beginning >= OPEN_MAX || own >= OPEN_OF_USER_MAX) {
      throw new AppError('limit_exceeded', 'too many files are being uploaded at once', {
        hint: `finish or cancel some; those that hear nothing for ${IDLE_MS_MAX / 60_000} minutes are given up`,
      });
    }
    this.#beginning += 1;
    try {
      const upload = await begin();
      const id = Buffer.from(this.#rng.bytes(16)).toString('hex');
      const usedMs = this.#clock.monotonicMs();
      this.#open.set(id, {
        ...owner,
        id,
        upload,
        disk,
        hash: createHash('sha256'),
        bytes: 0,
        usedMs,
        isBusy: false,
      });
      return id;
    } finally {
      this.#beginning -= 1;
    }
  }

  /**
   * A piece that fails ends the upload: what is on the disk is not known any more.
   * @throws InputError `object_not_found`, `parameter_invalid`; AppError `limit_exceeded`, `disk_full`, `io`
   */
  async append(
    owner: UploadOwner,
    { id, piece, offset }: { readonly id: string; readonly piece: Uint8Array; readonly offset: number },
  ): Promise<void> {
    await this.#use(owner, id, async (open) => {
      if (offset !== open.bytes) {
        throw new InputError('parameter_invalid', `the upload has ${open.bytes} bytes, not ${offset}`);
      }
      if (piece.length > PIECE_BYTES_MAX || open.bytes + piece.length > UPLOAD_BYTES_MAX) {
        throw new AppError('limit_exceeded', 'the file is too large', {
          hint: `a file may have ${UPLOAD_BYTES_MAX} bytes, a piece of it ${PIECE_BYTES_MAX}`,
        });
      }
      const { bavail, bsize } = await statfs(open.disk);
      if (bavail * bsize - piece.length < FREE_BYTES_MIN) {
        throw new AppError('disk_full', 'the disk of the node has no room for uploads', {
          hint: `uploads leave ${FREE_BYTES_MIN} bytes of it free`,
        });
      }
      await open.upload.append(piece);
      open.hash.update(piece);
      open.bytes += piece.length;
    });
  }

  /**
   * Makes the file durable and visible under its name.
   * @throws CorruptError when it is not what the client has sent; AppError `blob_exists`
   */
  async finish(
    owner: UploadOwner,
    { id, checksum }: { readonly id: string; readonly checksum: string },
  ): Promise<void> {
    await this.#use(owner, id, async (open) => {
      if (open.hash.digest('hex') !== checksum.toLowerCase()) {
        throw new CorruptError('the file that arrived is not the one that was sent: its checksum differs');
      }
      await open.upload.commit();
      await this.#end(open);
    });
  }

  /** Harmless when there is none. */
  async cancel(owner: UploadOwner, id: string): Promise<void> {
    if (this.#open.has(id)) await this.#use(owner, id, (open) => this.#end(open));
  }

  async #use(owner: UploadOwner, id: string, work: (open: Open) => Promise<void>): Promise<void> {
    const open = this.#open.get(id);
    if (open === undefined || !isOf(open, owner)) {
      throw new InputError('object_not_found', 'there is no such upload', {
        hint: 'it may have been given up because nothing was heard of it: begin anew',
      });
    }
    if (open.isBusy) throw new InputError('object_in_use', 'the upload is in use by another session');
    open.isBusy = true;
    try {
      await work(open);
    } catch (error) {
      await this.#giveUp(open);
      throw error;
    } finally {
      open.isBusy = false;
      open.usedMs = this.#clock.monotonicMs();
    }
  }

  async #giveUpIdle(): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    for (const open of this.#open.values()) {
      if (!open.isBusy && nowMs - open.usedMs > IDLE_MS_MAX) await this.#giveUp(open);
    }
  }

  /** What stands in the way concerns nobody: its folder may be gone with its virtual cluster. */
  async #giveUp(open: Open): Promise<void> {
    await this.#end(open).catch(() => undefined);
  }

  async #end(open: Open): Promise<void> {
    this.#open.delete(open.id);
    await open.upload.abort();
  }
}

function isOf(open: Open, owner: UploadOwner): boolean {
  return open.virtualClusterId === owner.virtualClusterId && open.user === owner.user;
}
