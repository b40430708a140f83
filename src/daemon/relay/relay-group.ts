import { CancelledError, type Clock, type Logger } from '../../base/index.ts';
import type { SessionService, TlsMaterial } from '../../frontdoor/index.ts';
import type { CancelKey } from '../../pg/index.ts';
import type { RelayFigures, RelayListen } from './messages.ts';
import { RelayProcess } from './relay-process.ts';

/** How long after its end a relay is replaced. */
const RESTART_DELAY_MS = 500;

export interface RelayGroupOptions {
  readonly count: number;
  readonly listen: RelayListen;
  readonly service: SessionService;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Cancels a session of the daemon's own front door; false when it has none with this key. */
  readonly cancelHere: (key: CancelKey) => boolean;
}

/**
 * Relay processes that share the SQL port with the daemon; the kernel deals connections out. One that ends takes its
 * sessions with it and is replaced; the others do not notice.
 */
export class RelayGroup {
  readonly #options: RelayGroupOptions;
  readonly #closing = new AbortController();
  readonly #relays = new Set<RelayProcess>();
  readonly #places: Promise<void>[] = [];
  #listen: RelayListen;

  private constructor(options: RelayGroupOptions) {
    this.#options = options;
    this.#listen = options.listen;
  }

  /** All of them listen when this resolves. @throws AppError as the first that could not */
  static async open(options: RelayGroupOptions): Promise<RelayGroup> {
    const group = new RelayGroup(options);
    const starting = Array.from({ length: options.count }, () => group.#start());
    const started = await Promise.allSettled(starting);
    const failed = started.find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      await group.close();
      throw failed.reason;
    }
    for (const result of started) {
      if (result.status === 'fulfilled') group.#places.push(group.#keep(result.value));
    }
    return group;
  }

  /** Those that are started later show it too. */
  useCertificate(material: TlsMaterial): void {
    const { tls } = this.#listen;
    if (tls !== undefined) this.#listen = { ...this.#listen, tls: { ...tls, material } };
    for (const relay of this.#relays) relay.useCertificate(material);
  }

  /** Cancels the session with this key, in whichever process it is. */
  cancel(key: CancelKey): void {
    for (const relay of this.#relays) relay.cancel(key);
  }

  async figures(): Promise<readonly RelayFigures[]> {
    const figures = await Promise.all([...this.#relays].map((relay) => relay.figures()));
    return figures.filter((each) => each !== undefined);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#relays].map((relay) => relay.close()));
    await Promise.all(this.#places);
  }

  async #start(): Promise<RelayProcess> {
    const { service, clock, logger, cancelHere } = this.#options;
    const relay = await RelayProcess.start({
      listen: this.#listen,
      service,
      clock,
      logger,
      onCancelElsewhere: (key) => {
        if (!cancelHere(key)) this.cancel(key);
      },
    });
    this.#relays.add(relay);
    return relay;
  }

  /** Holds one place of the group until it closes: whoever ends there is followed by another. */
  async #keep(first: RelayProcess): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#closing;
    let relay: RelayProcess | undefined = first;
    try {
      for (;;) {
        if (relay !== undefined) {
          await relay.ended;
          this.#relays.delete(relay);
          if (signal.aborted) return;
          logger.warning(
            `relay process ${relay.processId} ended; its sessions are lost, another takes its place`,
          );
        }
        await clock.sleep(RESTART_DELAY_MS, { signal });
        relay = await this.#start().catch((error: unknown) => {
          logger.error('a relay process could not be started, will try again', error);
          return undefined;
        });
        if (signal.aborted) await relay?.close();
      }
    } catch (error) {
      if (!(error instanceof CancelledError)) throw error;
    }
  }
}
