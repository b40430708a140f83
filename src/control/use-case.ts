/** The form every statement of ours takes here. */
import { InputError, type Timestamp, formatTimestamp } from '../base/index.ts';
import type { Statement } from '../sql/index.ts';
import type {
  Cell,
  Column,
  ColumnType,
  ExecuteContext,
  SessionIdentity,
  StatementResult,
  TransactionStatus,
} from './contract.ts';
import type { Core } from './core.ts';
import type { Asker } from './privileges/privileges.ts';

export interface UseCase<S extends Statement> {
  /** Of the result; undefined when there are no rows. Depends on nothing but the statement and the session. */
  columns(statement: S, session: SessionIdentity): readonly Column[] | undefined;
  /** The statement's name for messages when it must not run inside a transaction; undefined when it may. */
  readonly refusedInTransaction: string | undefined;
  run(core: Core, statement: S, context: ExecuteContext): Promise<StatementResult>;
}

/** A column per entry, in the order written. */
export function columnsOf(types: Readonly<Record<string, ColumnType>>): readonly Column[] {
  return Object.entries(types).map(([name, type]) => ({ name, type }));
}

export function rowsResult(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  tag = `SHOW ${rows.length}`,
): StatementResult {
  return { kind: 'rows', columns, rows, tag };
}

export function done(tag: string): StatementResult {
  return { kind: 'done', tag };
}

/** @param sql one statement of Postgres's */
export function inSession(sql: string, tag: string): StatementResult {
  return { kind: 'in_session', sql, tag };
}

export function boolCell(value: boolean): Cell {
  return value ? 't' : 'f';
}

export function timestampCell(value: Timestamp | null): Cell {
  return value === null ? null : formatTimestamp(value);
}

/** The asking user in the virtual cluster of the session. */
export function askerOf(core: Core, context: ExecuteContext): Asker {
  const { session, signal } = context;
  const instance = core.services.instanceOf({
    id: session.virtualClusterId,
    name: session.virtualClusterName,
  });
  return { instance, user: session.user, signal };
}

/** @throws InputError `transaction_failed`, `transaction_active` */
export function requireNoTransaction(status: TransactionStatus, refused: string | undefined): void {
  if (status === 'failed') {
    throw new InputError(
      'transaction_failed',
      'current transaction is aborted, commands ignored until end of transaction block',
    );
  }
  if (status === 'in_transaction' && refused !== undefined) {
    throw new InputError(
      'transaction_active',
      `${refused} cannot be used inside a multi-statement transaction`,
      { hint: 'end the transaction first' },
    );
  }
}
