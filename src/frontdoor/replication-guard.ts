import { AppError, type Logger } from '../base/index.ts';
import { decodeQuery, encodeReadyForQuery, FRONTEND } from '../pg/index.ts';
import { errorResponse } from './errors.ts';
import { type Interpreter, isCut } from './interpreter.ts';
import type { Relay } from './relay.ts';

/**
 * Output plugins that may be loaded. The name in CREATE_REPLICATION_SLOT may be any path to a library, which would run
 * inside the instance.
 */
const OUTPUT_PLUGINS: ReadonlySet<string> = new Set(['pgoutput', 'test_decoding', 'wal2json', 'decoderbufs']);

/** Commands that name a slot; what names none passes. */
const COMMAND = /^\s*(?:(?:create|drop|alter|read)_replication_slot|start_replication)(?![a-z0-9_$])/i;
/** Slots of that name are the node's own: they keep what the timeline still needs. */
const OWN_SLOT = /^atoll_/;
/** A quoted or plain identifier, or any other character, of the replication grammar; it knows no comments. */
const TOKEN = /"((?:[^"]|"")*)"|([a-z_\x80-\uffff][a-z0-9_$\x80-\uffff]*)|\S/giu;

/** What the consumer of a stream may ask. Whatever else there is or will be, as backups to a folder of the server, is refused. */
const STREAM_COMMAND =
  /^\s*(?:identify_system|show|timeline_history|read_replication_slot|start_replication|base_backup|upload_manifest)(?![a-z0-9_$])/i;
/** Slots that were made for consumers of streams; a consumer knows the name of its own. */
const STREAM_SLOT = /^atoll_stream_/;

/**
 * Guards a replication connection: all passes, but for slots with a plugin that is not on the list, and for the node's own slots. On that
 * of a stream's consumer nothing passes but what it needs.
 */
export class ReplicationGuard implements Interpreter {
  readonly #relay: Relay;
  readonly #logger: Logger;
  readonly #isStream: boolean;

  constructor(options: { relay: Relay; logger: Logger; isStream: boolean }) {
    this.#isStream = options.isStream;
    this.#relay = options.relay;
    this.#logger = options.logger;
  }

  wants(type: number, bytes: Buffer, begin: number, end: number): boolean {
    if (this.#isStream && (type === FRONTEND.query || type === FRONTEND.parse)) return true;
    return type === FRONTEND.query && COMMAND.test(bytes.toString('latin1', begin + 5, end));
  }

  /** What is too long to be read could hide a command. */
  wantsLong(type: number): boolean {
    return type === FRONTEND.query;
  }

  async handle(type: number, message: Buffer): Promise<void> {
    const relay = this.#relay;
    const error = isCut(message)
      ? new AppError('limit_exceeded', 'a query on a replication connection is too long')
      : this.#refusalOf(type, message);
    if (error === undefined) {
      relay.passOn(message);
      return;
    }
    await relay.settle();
    relay.reply(errorResponse(error, { severity: 'ERROR', logger: this.#logger }));
    await relay.failTransaction();
    relay.reply(encodeReadyForQuery(relay.status));
  }

  #refusalOf(type: number, message: Buffer): AppError | undefined {
    if (!this.#isStream) return refusalOf(decodeQuery(message));
    if (type === FRONTEND.query) return refusalInStream(decodeQuery(message));
    return new AppError('feature_not_supported', 'the extended protocol is not spoken on this connection');
  }
}

/** On the connection of a stream's consumer. */
function refusalInStream(text: string): AppError | undefined {
  const names = Array.from(text.matchAll(TOKEN), ([, quoted, plain]) => quoted ?? plain?.toLowerCase() ?? '');
  const isOfServer = names[0] === 'base_backup' && names.some((name) => name.toLowerCase() === 'target');
  const slot = names[0] === 'start_replication' ? (names[1] === 'slot' ? names[2] : undefined) : undefined;
  const isForeign = names[0] === 'start_replication' && (slot === undefined || !STREAM_SLOT.test(slot));
  if (STREAM_COMMAND.test(text) && !isOfServer && !isForeign && !text.includes(';')) return undefined;
  return new AppError('insufficient_privilege', 'this is no command that the consumer of a stream may give');
}

/** Why a command may not pass; undefined when it may. A CREATE_REPLICATION_SLOT that can't be read may not. */
function refusalOf(text: string): AppError | undefined {
  const tokens = Array.from(text.matchAll(TOKEN), ([token, quoted, plain]) => ({
    name: quoted?.replaceAll('""', '"') ?? plain?.toLowerCase() ?? token,
    isPlain: plain !== undefined,
  }));
  const [command, ...named] = tokens;
  const isStart = command?.name === 'start_replication';
  const slot = isStart ? (named[0]?.name === 'slot' ? named[1] : undefined) : named[0];
  if (slot !== undefined && OWN_SLOT.test(slot.name)) {
    return new AppError('insufficient_privilege', `replication slot "${slot.name}" belongs to the node`);
  }
  if (command?.name !== 'create_replication_slot') return undefined;
  const rest = tokens.slice(2); // Behind the command and the slot's name.
  if (rest[0]?.isPlain === true && rest[0].name === 'temporary') rest.shift();
  const [kind, plugin] = rest;
  if (kind?.isPlain === true && kind.name === 'physical') return undefined;
  if (kind?.isPlain !== true || kind.name !== 'logical' || plugin === undefined) {
    return new AppError('syntax', 'malformed CREATE_REPLICATION_SLOT', {
      hint: 'the form is: CREATE_REPLICATION_SLOT name [TEMPORARY] PHYSICAL | LOGICAL plugin',
    });
  }
  if (OUTPUT_PLUGINS.has(plugin.name)) return undefined;
  return new AppError('insufficient_privilege', `output plugin "${plugin.name}" is not allowed`, {
    hint: `use one of: ${[...OUTPUT_PLUGINS].join(', ')}`,
  });
}
