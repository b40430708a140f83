import { AppError, assert, isAppError } from '../../base/index.ts';
import type { BlobKey } from '../blob-key.ts';
import type { BlobUpload, SignalOptions } from '../blob-store.ts';
import { throwIfAborted } from '../read.ts';
import type { NewObject, ObjectService, PartUpload } from './object-service.ts';
import { type Patience, withPatience } from './patience.ts';

/** Giving up must not take long: what stays behind is found by `discardUploads`. */
const ABORT_MS_MAX = 10_000;

/**
 * An upload of unknown size. It is collected into parts, and holds at most `partsAtOnce + 1` of them in memory; what
 * fits into one is sent by a single request.
 */
export class PartWriter implements BlobUpload {
  readonly #service: ObjectService;
  readonly #patience: Patience;
  readonly #key: BlobKey;
  readonly #object: NewObject;
  readonly #signal: AbortSignal;
  readonly #underWay = new Set<Promise<void>>();
  #buffer: Buffer | null = null;
  #used = 0;
  #parts = 0;
  #upload: PartUpload | null = null;
  #failure: unknown = null;
  #ended = false;

  constructor(options: {
    service: ObjectService;
    patience: Patience;
    key: BlobKey;
    object: NewObject;
    signal: AbortSignal;
  }) {
    this.#service = options.service;
    this.#patience = options.patience;
    this.#key = options.key;
    this.#object = options.object;
    this.#signal = options.signal;
  }

  async append(chunk: Uint8Array): Promise<void> {
    throwIfAborted(this.#signal);
    assert(!this.#ended, 'append to an ended upload');
    for (let at = 0; at < chunk.length; ) {
      this.#buffer ??= Buffer.allocUnsafeSlow(this.#service.partBytes);
      if (this.#used === this.#buffer.length) await this.#sendPart();
      else at += this.#fill(chunk.subarray(at));
    }
  }

  async commit(): Promise<void> {
    throwIfAborted(this.#signal);
    assert(!this.#ended, 'commit of an ended upload');
    this.#ended = true;
    if (this.#upload === null) {
      const bytes = this.#buffer?.subarray(0, this.#used) ?? new Uint8Array(0);
      const request = (options: SignalOptions) => this.#service.putOnce({ ...this.#object, bytes }, options);
      return this.#makeVisible(request, { contentBytes: bytes.length });
    }
    if (this.#used > 0) await this.#sendPart();
    await Promise.all(this.#underWay);
    if (this.#failure !== null) throw this.#failure;
    const upload = this.#upload;
    await this.#makeVisible((options) => upload.complete(options));
    this.#upload = null;
  }

  async abort(): Promise<void> {
    this.#ended = true;
    this.#buffer = null;
    await Promise.all(this.#underWay);
    const upload = this.#upload;
    this.#upload = null;
    await upload?.abort({ signal: AbortSignal.timeout(ABORT_MS_MAX) }).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  /** Takes what fits into the part under way; returns how much that was. */
  #fill(chunk: Uint8Array): number {
    const buffer = this.#buffer;
    assert(buffer !== null, 'no part to fill');
    const length = Math.min(chunk.length, buffer.length - this.#used);
    buffer.set(chunk.subarray(0, length), this.#used);
    this.#used += length;
    return length;
  }

  /** Sends the part under way beside those before it, and waits until there is room for the next. */
  async #sendPart(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const bytes = this.#buffer?.subarray(0, this.#used) ?? new Uint8Array(0);
    const index = this.#parts++;
    if (index >= this.#service.partsMax) throw this.#tooLong();
    this.#upload ??= await withPatience(this.#patience, { signal: this.#signal }, (options) =>
      this.#service.beginParts(this.#object, options),
    );
    const upload = this.#upload;
    const limits = { signal: this.#signal, contentBytes: bytes.length };
    const sending = withPatience(this.#patience, limits, (options) =>
      upload.putPart({ index, bytes }, options),
    )
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#underWay.delete(sending));
    this.#underWay.add(sending);
    this.#buffer = null;
    this.#used = 0;
    if (this.#underWay.size >= this.#service.partsAtOnce) await Promise.race(this.#underWay);
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * The request after which the object is there. When its answer was lost, the next attempt finds the name taken, by
   * ourselves or by somebody else: the token tells.
   */
  async #makeVisible(
    request: (options: SignalOptions) => Promise<void>,
    { contentBytes = 0 }: { readonly contentBytes?: number } = {},
  ): Promise<void> {
    let isUncertain = false;
    await withPatience(this.#patience, { signal: this.#signal, contentBytes }, async (options) => {
      try {
        await request(options);
      } catch (error) {
        const isTransient = isAppError(error, 'blob_unavailable');
        if (isUncertain && !isTransient && (await this.#isOurs(options))) return;
        isUncertain ||= isTransient || options.signal.aborted;
        throw error;
      }
    });
  }

  async #isOurs(options: SignalOptions): Promise<boolean> {
    const stored = await this.#service.describe(this.#object.name, options);
    return stored?.token === this.#object.token;
  }

  #tooLong(): AppError {
    const { partsMax, partBytes, displayUri } = this.#service;
    return new AppError('storage_unusable', `${this.#key} is too long for ${displayUri}`, {
      detail: `an object there has at most ${partsMax} parts of ${partBytes} bytes`,
    });
  }
}
