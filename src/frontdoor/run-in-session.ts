import {
  BACKEND,
  encodeBind,
  encodeClose,
  encodeCommandComplete,
  encodeExecute,
  encodeParse,
  encodeQuery,
  withoutErrorFields,
} from '../pg/index.ts';
import { BackendError } from './errors.ts';
import type { Relay } from './relay.ts';

/** A prepared statement and a portal of our own, there for the length of one exchange. */
const NAME = 'atoll: in session';

/** What the client did not write and need not see: our statement's inner workings. */
const INNER_FIELDS = ['P', 'p', 'q', 'W'];

/**
 * Runs one statement of Postgres's, that a statement of ours has become, in the session's backend. Inside a pipeline it joins the
 * pipeline's transaction, which a Query would end. True when it failed; the client then has the error.
 * @throws BackendLostError
 */
export async function runInSession(
  relay: Relay,
  { sql, tag }: { readonly sql: string; readonly tag: string },
): Promise<boolean> {
  const { hasFailed } = await relay.exchange({
    messages: relay.ledger.hasOpenSegment ? pipelined(sql) : [encodeQuery(sql)],
    hidden: [
      BACKEND.parseComplete,
      BACKEND.bindComplete,
      BACKEND.closeComplete,
      BACKEND.commandComplete,
      BACKEND.readyForQuery,
    ],
    mapped: { type: BACKEND.errorResponse, map: (message) => withoutErrorFields(message, INNER_FIELDS) },
  });
  if (!hasFailed) relay.reply(encodeCommandComplete(tag));
  return hasFailed;
}

/**
 * Whether the session's database has a relation of this name, made in this transaction or before. In a transaction that has failed nothing
 * can be asked: then no.
 * @param name plain words with a dot between, for it goes into a text
 * @throws BackendLostError; BackendError when the backend had an error to tell instead
 */
export async function hasTable(relay: Relay, name: string): Promise<boolean> {
  if (relay.transaction === 'failed') return false;
  return (await askInSession(relay, `select where pg_catalog.to_regclass('${name}') is not null`)).length > 0;
}

/**
 * Runs a query of ours in the session's backend, of which the client sees nothing. Gives the DataRow messages, in text form.
 * @throws BackendLostError; BackendError when the backend had an error to tell instead
 */
export async function askInSession(relay: Relay, sql: string): Promise<readonly Buffer[]> {
  const rows: Buffer[] = [];
  let told: Buffer | undefined;
  await relay.exchange({
    messages: relay.ledger.hasOpenSegment ? pipelined(sql) : [encodeQuery(sql)],
    hidden: [
      BACKEND.parseComplete,
      BACKEND.bindComplete,
      BACKEND.closeComplete,
      BACKEND.rowDescription,
      BACKEND.dataRow,
      BACKEND.commandComplete,
      BACKEND.errorResponse,
      BACKEND.readyForQuery,
    ],
    heard: (type, message) => {
      if (type === BACKEND.dataRow) rows.push(Buffer.from(message));
      if (type === BACKEND.errorResponse) told = Buffer.from(message);
    },
  });
  if (told !== undefined) throw new BackendError(told);
  return rows;
}

function pipelined(sql: string): readonly Buffer[] {
  return [
    encodeParse({ statementName: NAME, text: sql, parameterOids: [] }),
    encodeBind({
      portalName: NAME,
      statementName: NAME,
      parameterFormats: [],
      parameters: [],
      resultFormats: [],
    }),
    encodeExecute({ portalName: NAME, rowsMax: 0 }),
    encodeClose({ kind: 'portal', name: NAME }),
    encodeClose({ kind: 'statement', name: NAME }),
  ];
}
