import { AppError } from '../base/index.ts';
import { decodeQuery, FRONTEND } from '../pg/index.ts';
import { mayBeOursBytes } from '../sql/index.ts';
import { type Interpreter, isCut } from './interpreter.ts';
import { OwnExtended } from './ours-extended.ts';
import { type OwnContext, runSimpleQuery } from './ours-simple.ts';

/** Finds our statements in an ordinary session, by both protocols. */
export class OwnInterpreter implements Interpreter {
  readonly #context: OwnContext;
  readonly #extended: OwnExtended;

  constructor(context: OwnContext) {
    this.#context = context;
    this.#extended = new OwnExtended(context);
  }

  wants(type: number, bytes: Buffer, begin: number, end: number): boolean {
    switch (type) {
      case FRONTEND.query: {
        const { relay, isScreened } = this.#context;
        if (this.#extended.isInUse) this.#extended.onSimpleQuery();
        return relay.ledger.hasOpenSegment || isScreened || mayBeOursBytes(bytes, begin + 5, end);
      }
      case FRONTEND.functionCall:
        return true; // Asked only when it ends an open segment.
      case FRONTEND.parse: {
        const text = bytes.indexOf(0, begin + 5) + 1;
        if (this.#context.isScreened || (text > 0 && mayBeOursBytes(bytes, text, end))) return true;
        break;
      }
      default:
    }
    return this.#extended.isInUse && this.#extended.wants(bytes.subarray(begin, end));
  }

  /** A long text can't be ours, but a long message may bind parameters to one of ours. */
  wantsLong(type: number, bytes: Buffer, begin: number): boolean {
    if (type === FRONTEND.query || type === FRONTEND.functionCall)
      return this.#context.relay.ledger.hasOpenSegment;
    return this.#extended.isInUse && this.#extended.wants(bytes.subarray(begin));
  }

  async handle(type: number, message: Buffer): Promise<void> {
    if (type !== FRONTEND.query && type !== FRONTEND.functionCall) return this.#extended.handle(message);
    const { relay } = this.#context;
    await relay.settle();
    if (relay.ledger.isSkipping) return; // As a server does until the next Sync.
    if (isCut(message))
      throw new AppError('limit_exceeded', 'query behind an unfinished pipeline is too long');
    if (type === FRONTEND.query && !relay.ledger.isCopyingIn) {
      const text = readText(message);
      if (text !== undefined && (await runSimpleQuery(this.#context, text))) return;
    }
    relay.passOn(message);
  }
}

/** Undefined when it is not UTF-8 or malformed: Postgres will say so. */
function readText(message: Buffer): string | undefined {
  try {
    return decodeQuery(message);
  } catch {
    return undefined;
  }
}
