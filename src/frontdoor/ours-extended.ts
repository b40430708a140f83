import { AppError, InputError } from '../base/index.ts';
import type { Cell, Column } from '../control/index.ts';
import {
  BACKEND,
  BINARY_FORMAT,
  type BindMessage,
  decodeBind,
  decodeExecute,
  decodeNamed,
  decodeParameterDescription,
  decodeParse,
  encodeBind,
  encodeBindComplete,
  encodeCommandComplete,
  encodeDescribe,
  encodeNoData,
  encodeParameterDescription,
  encodeParse,
  encodePortalSuspended,
  encodeSync,
  type FormatCode,
  FRONTEND,
  mapErrorPosition,
  MessageWriter,
  type ParseMessage,
  protocolViolation,
  TEXT_FORMAT,
  TYPE_OID,
} from '../pg/index.ts';
import { highestPlaceholder, parseStatement, type Statement, splitStatements } from '../sql/index.ts';
import { decodeBinaryParameter } from './binary-format.ts';
import { errorResponse } from './errors.ts';
import { isCut } from './interpreter.ts';
import { describe, fetchRows, isOfTenant, type OwnContext, readingOf, screen } from './ours-simple.ts';
import { BackendLostError } from './relay.ts';
import { describeColumns, formatsOf, type RowsResult, writeRows } from './result-encoder.ts';
import { runInSession } from './run-in-session.ts';
import { readRowSources, replaceRowSources, type RowSourceText } from './row-source.ts';

/** Prepared statements of ours that one session may keep. */
const PREPARED_MAX = 1_000;
/** Makes the backend skip what follows up to the next Sync, as it does after any error. */
const FAILING_DESCRIBE = encodeDescribe({
  kind: 'statement',
  name: 'atoll: a statement in this pipeline failed',
});
const SYNC = encodeSync();

/** A statement of ours under a prepared name. */
interface Prepared {
  readonly kind: 'own';
  readonly statement: Statement;
  readonly text: string;
  /** Declared types, undeclared ones being text. */
  readonly parameterOids: readonly number[];
}

/** A statement of Postgres's with row sources of ours: the backend knows it with one more parameter per source. */
interface PreparedRowSources {
  readonly kind: 'row_source';
  readonly source: RowSourceText;
  readonly parameterOids: readonly number[];
}

/** A statement of ours with its parameters bound; the result, once there is one, is handed out in pieces. */
interface Portal {
  readonly prepared: Prepared;
  readonly parameters: readonly Cell[];
  readonly resultFormats: readonly FormatCode[];
  /** Portals end with their transaction. */
  readonly idleCount: number;
  progress: { readonly result: RowsResult; readonly rowsSent: number } | 'done' | undefined;
}

/**
 * Our statements in the extended protocol. A name is prepared in the backend as well, with an empty text, so that names
 * are taken and freed in one place; portals are kept here. Each message of ours waits until the backend has answered all
 * before it, so replies keep their order in a pipeline.
 */
export class OwnExtended {
  readonly #context: OwnContext;
  readonly #prepared = new Map<string, Prepared | PreparedRowSources>();
  readonly #portals = new Map<string, Portal>();

  constructor(context: OwnContext) {
    this.#context = context;
  }

  /** Something of ours is prepared or bound. */
  get isInUse(): boolean {
    return this.#prepared.size > 0 || this.#portals.size > 0;
  }

  /** Whether a message names something of ours. */
  wants(message: Buffer): boolean {
    switch (message[0]) {
      case FRONTEND.parse:
        return this.#prepared.has(nameAt(message, 5).name);
      case FRONTEND.bind: {
        const portal = nameAt(message, 5);
        return this.#portals.has(portal.name) || this.#prepared.has(nameAt(message, portal.after).name);
      }
      case FRONTEND.execute:
        return this.#portals.has(nameAt(message, 5).name);
      case FRONTEND.describe:
      case FRONTEND.close: {
        const { name } = nameAt(message, 6);
        return message[5] === 0x53 ? this.#prepared.has(name) : this.#portals.has(name);
      }
      default:
        return false;
    }
  }

  /** A Query ends the unnamed statement and portal. */
  onSimpleQuery(): void {
    this.#prepared.delete('');
    this.#portals.clear();
    this.#steerAttention();
  }

  /** Deals with a message of ours. What a server would skip after an error is skipped. */
  async handle(message: Buffer): Promise<void> {
    const { relay, execution, logger } = this.#context;
    await relay.settle();
    // The backend takes COPY data, or skips: it knows what to say, or not to.
    if (relay.ledger.isCopyingIn || relay.ledger.isSkipping) {
      relay.passOn(message, { isAnswered: !relay.ledger.isSkipping });
      return;
    }
    try {
      if (isCut(message)) throw new AppError('limit_exceeded', 'message for a statement of ours is too long');
      await this.#dispatch(message);
      if (await execution.recover()) this.#forget();
    } catch (error) {
      if (error instanceof BackendLostError) throw error;
      relay.reply(errorResponse(error, { severity: 'ERROR', logger }));
      relay.discardUntilSync();
      if (await execution.recover()) this.#forget();
      else await this.#failPipeline();
    } finally {
      this.#steerAttention();
    }
  }

  #dispatch(message: Buffer): Promise<void> | void {
    switch (message[0]) {
      case FRONTEND.parse:
        return this.#parse(message);
      case FRONTEND.bind:
        return this.#bind(message);
      case FRONTEND.describe:
        return this.#describe(message);
      case FRONTEND.execute:
        return this.#execute(message);
      default:
        return this.#close(message);
    }
  }

  /** The backend's transaction, explicit or of the pipeline, fails with our statement. */
  async #failPipeline(): Promise<void> {
    const { relay } = this.#context;
    if (!relay.ledger.hasOpenSegment) return relay.failTransaction();
    await relay.exchange({ messages: [FAILING_DESCRIBE], hidden: [BACKEND.errorResponse] });
  }

  async #parse(message: Buffer): Promise<void> {
    const context = this.#context;
    const parse = decodeParse(message);
    const pieces = splitStatements(parse.text);
    const found = pieces.map(({ node }) =>
      pieces.length === 1 ? parseStatement(parse.text) : parseStatement(node),
    );
    const [own] = found.filter((one) => one !== undefined);
    if (own !== undefined && !(await isOfTenant(context, own.node))) {
      if (pieces.length > 1) {
        throw new InputError('syntax', 'cannot insert multiple commands into a prepared statement');
      }
      return this.#parseOwn(parse, own.node);
    }
    await screen(context, parse.text);
    const source = await readRowSources(parse.text, readingOf(context));
    if (source !== undefined) return this.#parseRowSources(parse, source);
    await this.#parsePostgres(message, parse.statementName);
  }

  async #parseOwn(parse: ParseMessage, statement: Statement): Promise<void> {
    const { relay } = this.#context;
    this.#checkRoom(parse.statementName);
    const messages = [encodeParse({ statementName: parse.statementName, text: '', parameterOids: [] })];
    // Without a Sync the backend would stay in a transaction for as long as our statement runs.
    const isAlone = !relay.ledger.hasOpenSegment;
    if (isAlone) messages.push(SYNC);
    const { hasFailed } = await relay.exchange({ messages, hidden: isAlone ? [BACKEND.readyForQuery] : [] });
    if (hasFailed) {
      relay.discardUntilSync();
      return;
    }
    const count = Math.max(highestPlaceholder(parse.text), parse.parameterOids.length);
    const parameterOids = Array.from({ length: count }, (_, at) => parse.parameterOids[at] || TYPE_OID.text);
    this.#prepared.set(parse.statementName, { kind: 'own', statement, text: parse.text, parameterOids });
  }

  async #parseRowSources(parse: ParseMessage, source: RowSourceText): Promise<void> {
    const { relay } = this.#context;
    this.#checkRoom(parse.statementName);
    // A parameter used in brackets only is in the rewritten text no more; without a type Postgres would refuse it.
    const count = Math.max(source.placeholders, parse.parameterOids.length);
    const parameterOids = Array.from({ length: count }, (_, at) => {
      const isHidden = !source.pieces.some((piece) => usesPlaceholder(piece, at + 1));
      return parse.parameterOids[at] || (isHidden ? TYPE_OID.text : 0);
    });
    const values = source.sources.map((_, at) => `$${count + at + 1}`);
    const rewritten = encodeParse({
      statementName: parse.statementName,
      text: replaceRowSources(source, values),
      parameterOids: [...parameterOids, ...values.map(() => TYPE_OID.jsonb)],
    });
    const { hasFailed } = await relay.exchange({
      messages: [rewritten],
      mapped: { type: BACKEND.errorResponse, map: (error) => mapErrorPosition(error, () => undefined) },
    });
    if (!hasFailed) this.#prepared.set(parse.statementName, { kind: 'row_source', source, parameterOids });
  }

  /** A statement of Postgres's under a name that was ours: if the backend takes it, it is Postgres's from now on. */
  async #parsePostgres(message: Buffer, name: string): Promise<void> {
    const { relay } = this.#context;
    if (!this.#prepared.has(name)) {
      relay.passOn(message);
      return;
    }
    const { hasFailed } = await relay.exchange({ messages: [message] });
    if (!hasFailed) this.#prepared.delete(name);
  }

  async #bind(message: Buffer): Promise<void> {
    const { relay } = this.#context;
    const bind = decodeBind(message);
    const prepared = this.#prepared.get(bind.statementName);
    if (prepared === undefined) {
      this.#portals.delete(bind.portalName);
      relay.passOn(message);
      return;
    }
    if (bind.parameters.length !== prepared.parameterOids.length) {
      throw protocolViolation(
        `bind message supplies ${bind.parameters.length} parameters, but prepared statement "${bind.statementName}" requires ${prepared.parameterOids.length}`,
      );
    }
    const parameters = bind.parameters.map((value, at) =>
      value === null ? null : parameterText(bind, { value, at, oid: prepared.parameterOids[at] ?? 0 }),
    );
    if (prepared.kind === 'row_source') return this.#bindRowSources({ bind, prepared, parameters });
    this.#portals.set(bind.portalName, {
      prepared,
      parameters,
      resultFormats: bind.resultFormats,
      idleCount: relay.idleCount,
      progress: undefined,
    });
    relay.reply(encodeBindComplete());
  }

  async #bindRowSources(options: {
    bind: BindMessage;
    prepared: PreparedRowSources;
    parameters: readonly Cell[];
  }): Promise<void> {
    const { bind, prepared, parameters } = options;
    const rows: Buffer[] = [];
    for (const source of prepared.source.sources) {
      rows.push(Buffer.from(await fetchRows(this.#context, source, parameters)));
    }
    const formats = bind.parameters.map((_, at) => formatOf(bind.parameterFormats, at));
    const rewritten = encodeBind({
      ...bind,
      parameterFormats: [...formats, ...rows.map((): FormatCode => TEXT_FORMAT)],
      parameters: [...bind.parameters, ...rows],
    });
    const { hasFailed } = await this.#context.relay.exchange({ messages: [rewritten] });
    if (!hasFailed) this.#portals.delete(bind.portalName);
  }

  async #describe(message: Buffer): Promise<void> {
    const { relay } = this.#context;
    const { kind, name } = decodeNamed(message);
    if (kind === 'portal') {
      const portal = this.#portal(name);
      relay.reply(
        rowDescription(await describe(this.#context, portal.prepared.statement), portal.resultFormats),
      );
      return;
    }
    const prepared = this.#prepared.get(name);
    if (prepared?.kind === 'own') {
      relay.reply(encodeParameterDescription(prepared.parameterOids));
      relay.reply(rowDescription(await describe(this.#context, prepared.statement), []));
      return;
    }
    const visible = prepared?.parameterOids.length ?? 0;
    await relay.exchange({
      messages: [message],
      mapped: {
        type: BACKEND.parameterDescription,
        map: (description) =>
          encodeParameterDescription(decodeParameterDescription(description).slice(0, visible)),
      },
    });
  }

  async #execute(message: Buffer): Promise<void> {
    const { execution, relay } = this.#context;
    const { portalName, rowsMax } = decodeExecute(message);
    const portal = this.#portal(portalName);
    if (portal.progress === 'done') {
      throw new AppError('object_state', `portal "${portalName}" cannot be run again`);
    }
    if (portal.progress === undefined) {
      const { statement, text } = portal.prepared;
      const result = await execution.execute({ statement, text, parameters: portal.parameters });
      if (result.kind === 'in_session') {
        const isAlone = !relay.ledger.hasOpenSegment;
        const hasFailed = await runInSession(relay, result);
        if (hasFailed && isAlone) relay.discardUntilSync();
        if (!hasFailed) portal.progress = 'done';
        return;
      }
      if (result.kind === 'done') {
        portal.progress = 'done';
        relay.reply(encodeCommandComplete(result.tag));
        return;
      }
      portal.progress = { result, rowsSent: 0 };
    }
    this.#sendRows(portal, portal.progress, rowsMax);
  }

  #sendRows(portal: Portal, progress: { result: RowsResult; rowsSent: number }, rowsMax: number): void {
    const { result, rowsSent } = progress;
    const end = rowsMax > 0 ? Math.min(result.rows.length, rowsSent + rowsMax) : result.rows.length;
    // Formats that do not fit are the client's mistake; nothing has been sent yet.
    formatsOf(result.columns, portal.resultFormats);
    const writer = new MessageWriter({ initialBytes: 4096 });
    writeRows(writer, result, { asked: portal.resultFormats, begin: rowsSent, end });
    // As in Postgres, a limit that is just reached suspends: the client asks again and gets the end.
    const isSuspended = rowsMax > 0 && end - rowsSent === rowsMax;
    portal.progress = isSuspended ? { result, rowsSent: end } : 'done';
    writer.bytes(isSuspended ? encodePortalSuspended() : encodeCommandComplete(result.tag));
    this.#context.relay.reply(writer.take());
  }

  #close(message: Buffer): void {
    const { kind, name } = decodeNamed(message);
    if (kind === 'statement') this.#prepared.delete(name);
    else this.#portals.delete(name);
    this.#context.relay.passOn(message);
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal === undefined || portal.idleCount !== this.#context.relay.idleCount) {
      throw new AppError('cursor_undefined', `portal "${name}" does not exist`);
    }
    return portal;
  }

  #checkRoom(name: string): void {
    if (this.#prepared.size >= PREPARED_MAX && !this.#prepared.has(name)) {
      throw new AppError(
        'limit_exceeded',
        `a session keeps at most ${PREPARED_MAX} prepared statements of this kind`,
        {
          hint: 'close statements that are no longer needed',
        },
      );
    }
  }

  #forget(): void {
    this.#prepared.clear();
    this.#portals.clear();
  }

  #steerAttention(): void {
    this.#context.relay.isAttentive = this.isInUse;
  }
}

function rowDescription(columns: readonly Column[] | undefined, asked: readonly FormatCode[]): Buffer {
  return columns === undefined ? encodeNoData() : describeColumns(columns, asked);
}

/** A zero-terminated name in a message; what can't be read is no name of ours. */
function nameAt(message: Buffer, at: number): { name: string; after: number } {
  const zero = message.indexOf(0, at);
  if (zero === -1) return { name: '\0', after: message.length };
  return { name: message.toString('utf8', at, zero), after: zero + 1 };
}

function formatOf(formats: readonly FormatCode[], at: number): FormatCode {
  return (formats.length === 1 ? formats[0] : formats[at]) ?? TEXT_FORMAT;
}

function parameterText(bind: BindMessage, options: { value: Buffer; at: number; oid: number }): string {
  const { value, at, oid } = options;
  return formatOf(bind.parameterFormats, at) === BINARY_FORMAT
    ? decodeBinaryParameter(oid, value)
    : value.toString();
}

function usesPlaceholder(piece: string, number: number): boolean {
  return new RegExp(`\\$${number}(?!\\d)`).test(piece);
}
