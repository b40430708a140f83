import { AppError, assert } from '../../base/index.ts';
import type { SignalOptions } from '../blob-store.ts';
import type { PartUpload } from '../service/object-service.ts';
import { faultWithoutAnswer, type ServiceFault } from '../service/service-error.ts';
import type { Fetch } from './fetch-by-agent.ts';

/** What the service answers while it waits for more. */
const RESUME_INCOMPLETE = 308;

interface HeldPart {
  readonly index: number;
  readonly bytes: Uint8Array;
}

/**
 * A resumable session: parts are sent in their order, and the last one says that it is. So each is held back until the
 * next one, or the end, is there. After an error the service is asked how much it has. The session's address is all the
 * right that writing to it needs, hence a secret. Source: Cloud Storage, "Perform resumable uploads".
 */
export class ResumableUpload implements PartUpload {
  readonly #sessionUri: string;
  readonly #fetch: Fetch;
  readonly #refused: (fault: ServiceFault) => AppError;
  #held: HeldPart | null = null;
  /** Where the part that is held begins in the object. */
  #offset = 0;
  #isUncertain = false;

  constructor(options: {
    readonly sessionUri: string;
    readonly fetch: Fetch;
    /** Our error for the service's. */
    readonly refused: (fault: ServiceFault) => AppError;
  }) {
    this.#sessionUri = options.sessionUri;
    this.#fetch = options.fetch;
    this.#refused = options.refused;
  }

  async putPart({ index, bytes }: HeldPart, options: SignalOptions): Promise<void> {
    const held = this.#held;
    if (held !== null && held.index < index) {
      await this.#send(held.bytes, { isLast: false, options });
      this.#offset += held.bytes.length;
    }
    this.#held = { index, bytes };
  }

  async complete(options: SignalOptions): Promise<void> {
    assert(this.#held !== null, 'a session without parts');
    await this.#send(this.#held.bytes, { isLast: true, options });
  }

  async abort({ signal }: SignalOptions): Promise<void> {
    await this.#fetch(this.#sessionUri, { method: 'DELETE', signal, body: '' });
  }

  async #send(
    bytes: Uint8Array,
    { isLast, options }: { readonly isLast: boolean; readonly options: SignalOptions },
  ): Promise<void> {
    const end = this.#offset + bytes.length;
    const begin = this.#isUncertain ? await this.#storedBytes(options) : this.#offset;
    if (begin === null) return; // The end had arrived, only its answer was lost.
    assert(begin >= this.#offset && begin <= end, 'the service has more than was sent');
    if (begin === end && !isLast) return;
    const range = begin === end ? '*' : `${begin}-${end - 1}`;
    this.#isUncertain = true;
    const { status } = await this.#asked(bytes.subarray(begin - this.#offset), {
      range: `bytes ${range}/${isLast ? end : '*'}`,
      options,
    });
    if ((status === RESUME_INCOMPLETE) === isLast) {
      throw new AppError('blob_unavailable', `the service answered ${status} to a part of an upload`);
    }
    this.#isUncertain = false;
  }

  /** How many bytes of the object the service has; null when it has the whole object. */
  async #storedBytes(options: SignalOptions): Promise<number | null> {
    const answer = await this.#asked('', { range: 'bytes */*', options });
    if (answer.status !== RESUME_INCOMPLETE) return null;
    const last = /^bytes=0-(\d+)$/.exec(answer.headers.get('range') ?? '')?.[1];
    return last === undefined ? 0 : Number(last) + 1;
  }

  async #asked(
    body: Uint8Array | string,
    { range, options }: { readonly range: string; readonly options: SignalOptions },
  ): Promise<Response> {
    const headers = { 'Content-Range': range };
    const { signal } = options;
    let answer: Response;
    try {
      answer = await this.#fetch(this.#sessionUri, { method: 'PUT', headers, body, signal });
      await answer.arrayBuffer();
    } catch (error) {
      throw this.#refused(faultWithoutAnswer(error));
    }
    if (answer.ok || answer.status === RESUME_INCOMPLETE) return answer;
    throw this.#refused({ word: 'Error', status: answer.status });
  }
}
