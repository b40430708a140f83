import { createHash } from 'node:crypto';
import { z } from 'zod';
import { AppError, assert, CorruptError } from '../../base/index.ts';
import type { SignalOptions } from '../blob-store.ts';
import type { PartUpload } from '../service/object-service.ts';
import { faultWithoutAnswer, type ServiceFault } from '../service/service-error.ts';
import type { Fetch } from './fetch-by-agent.ts';

/** What the service answers while it waits for more. */
const RESUME_INCOMPLETE = 308;

/** What the service tells of an object that is complete. */
const completeSchema = z.looseObject({ md5Hash: z.string() });

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array;
}

interface HeldPart {
  readonly index: number;
  readonly bytes: Uint8Array;
}

/**
 * A resumable session: parts are sent in their order, and the last one says that it is. So each is held back until the
 * next one, or the end, is there. After an error the service is asked how much it has. What it has in the end is compared
 * with what was sent: of parts it checks nothing. The session's address is all the right that writing to it needs, hence a
 * secret. Source: Cloud Storage, "Perform resumable uploads".
 */
export class ResumableUpload implements PartUpload {
  readonly #sessionUri: string;
  readonly #fetch: Fetch;
  readonly #refused: (fault: ServiceFault) => AppError;
  readonly #remove: (options: SignalOptions) => Promise<void>;
  /** Of all parts that came. */
  readonly #md5 = createHash('md5');
  #held: HeldPart | null = null;
  /** Where the part that is held begins in the object. */
  #offset = 0;
  #isUncertain = false;

  constructor(options: {
    readonly sessionUri: string;
    readonly fetch: Fetch;
    /** Our error for the service's. */
    readonly refused: (fault: ServiceFault) => AppError;
    /** Removes the object, when it is not what was sent. */
    readonly remove: (options: SignalOptions) => Promise<void>;
  }) {
    this.#sessionUri = options.sessionUri;
    this.#fetch = options.fetch;
    this.#refused = options.refused;
    this.#remove = options.remove;
  }

  async putPart({ index, bytes }: HeldPart, options: SignalOptions): Promise<void> {
    const held = this.#held;
    if (held !== null && held.index < index) {
      await this.#send(held.bytes, { isLast: false, options });
      this.#offset += held.bytes.length;
    }
    if (held?.index !== index) this.#md5.update(bytes);
    this.#held = { index, bytes };
  }

  async complete(options: SignalOptions): Promise<void> {
    assert(this.#held !== null, 'a session without parts');
    const answer = await this.#send(this.#held.bytes, { isLast: true, options });
    if (storedDigest(answer) === this.#md5.copy().digest('base64')) return;
    await this.#remove(options).catch(() => undefined); // Without the right to, it stays: nothing will refer to it.
    throw new CorruptError('the service has stored other bytes than were sent');
  }

  async abort({ signal }: SignalOptions): Promise<void> {
    await this.#fetch(this.#sessionUri, { method: 'DELETE', signal, body: '' });
  }

  async #send(
    bytes: Uint8Array,
    { isLast, options }: { readonly isLast: boolean; readonly options: SignalOptions },
  ): Promise<Answer> {
    const end = this.#offset + bytes.length;
    const before = this.#isUncertain ? await this.#asked('', { range: 'bytes */*', options }) : null;
    if (before !== null && before.status !== RESUME_INCOMPLETE) return before; // The end had arrived, only its answer was lost.
    const begin = before === null ? this.#offset : storedBytes(before);
    assert(begin >= this.#offset && begin <= end, 'the service has more than was sent');
    if (before !== null && begin === end && !isLast) return before;
    const range = begin === end ? '*' : `${begin}-${end - 1}`;
    this.#isUncertain = true;
    const answer = await this.#asked(bytes.subarray(begin - this.#offset), {
      range: `bytes ${range}/${isLast ? end : '*'}`,
      options,
    });
    if ((answer.status === RESUME_INCOMPLETE) === isLast) {
      throw new AppError('blob_unavailable', `the service answered ${answer.status} to a part of an upload`);
    }
    this.#isUncertain = false;
    return answer;
  }

  async #asked(
    body: Uint8Array | string,
    { range, options }: { readonly range: string; readonly options: SignalOptions },
  ): Promise<Answer> {
    const { signal } = options;
    let answer: Response;
    let bytes: Uint8Array;
    try {
      const headers = { 'Content-Range': range };
      answer = await this.#fetch(this.#sessionUri, { method: 'PUT', headers, body, signal });
      bytes = new Uint8Array(await answer.arrayBuffer());
    } catch (error) {
      throw this.#refused(faultWithoutAnswer(error));
    }
    const { status, headers } = answer;
    if (answer.ok || status === RESUME_INCOMPLETE) return { status, headers, bytes };
    throw this.#refused({ word: 'Error', status });
  }
}

/** MD5 of an object that is complete, in base64. */
function storedDigest({ bytes }: Answer): string {
  try {
    return completeSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8'))).md5Hash;
  } catch (cause) {
    throw new AppError('blob_unavailable', 'the service did not tell what it has stored', { cause });
  }
}

/** How many bytes of an object that is not complete the service has. */
function storedBytes({ headers }: Answer): number {
  const last = /^bytes=0-(\d+)$/.exec(headers.get('range') ?? '')?.[1];
  return last === undefined ? 0 : Number(last) + 1;
}
