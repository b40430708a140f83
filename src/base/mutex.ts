import { CancelledError } from './errors.ts';

/** Lets one task at a time through, in the order they came. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

/** One `Mutex` per key, forgotten when nobody holds or awaits it. */
export class KeyedMutex<Key> {
  readonly #held = new Map<Key, { readonly mutex: Mutex; count: number }>();

  async run<T>(key: Key, task: () => Promise<T>): Promise<T> {
    const entry = this.#held.get(key) ?? { mutex: new Mutex(), count: 0 };
    this.#held.set(key, entry);
    entry.count += 1;
    try {
      return await entry.mutex.run(task);
    } finally {
      entry.count -= 1;
      if (entry.count === 0) this.#held.delete(key);
    }
  }
}

/** Lets a fixed number of tasks through at a time, in the order they came. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  /** Takes a place; calling the result gives it back, a second call is harmless. @throws CancelledError */
  async acquire(options: { signal: AbortSignal }): Promise<() => void> {
    const { signal } = options;
    if (signal.aborted) throw new CancelledError();
    if (this.#free > 0) {
      this.#free -= 1;
      return this.#releaseOnce();
    }
    await new Promise<void>((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(onTurn), 1);
        reject(new CancelledError());
      };
      const onTurn = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(onTurn);
    });
    return this.#releaseOnce();
  }

  async run<T>(task: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    const release = await this.acquire(options);
    try {
      return await task();
    } finally {
      release();
    }
  }

  #releaseOnce(): () => void {
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    };
  }
}
