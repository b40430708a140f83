/** GRANT, REVOKE and ALTER DEFAULT PRIVILEGES with BACKUP or RESTORE, and GRANT ... ON EXTERNAL CONNECTION. */
import { AppError, type ErrorCode, InputError, toError } from '../../base/index.ts';
import type { PrivilegeObject, Statement } from '../../sql/index.ts';
import { changeConnectionPrivileges } from '../connections/connection-privileges.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import {
  databaseGrantSql,
  defaultPrivilegesSql,
  type GrantChange,
  splitPrivileges,
  tableGrantSql,
} from './grant-sql.ts';
import { ensurePrivilegeStore } from './privilege-store.ts';
import { holdsPrivilege } from './privileges.ts';
import { requireDatabases, resolveTables, type TableTargets } from './privilege-targets.ts';
import { type UseCase, askerOf, done, inSession } from '../use-case.ts';

type GrantOnObject = Extract<Statement, { kind: 'grant_on_object' }>;
type RevokeOnObject = Extract<Statement, { kind: 'revoke_on_object' }>;
type AlterDefaultPrivileges = Extract<Statement, { kind: 'alter_default_privileges' }>;

export const grantOnObject: UseCase<GrantOnObject> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  run: (core, statement, context) =>
    change(core, { statement, change: { ...statement, kind: 'grant' }, context }),
};

export const revokeOnObject: UseCase<RevokeOnObject> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  run: (core, statement, context) =>
    change(core, { statement, change: { ...statement, kind: 'revoke' }, context }),
};

export const alterDefaultPrivileges: UseCase<AlterDefaultPrivileges> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const privileges = splitPrivileges(statement.privileges, 'table');
    await ensurePrivilegeStore(askerOf(core, context), context.session.database);
    return inSession(defaultPrivilegesSql({ ...statement, privileges }), 'ALTER DEFAULT PRIVILEGES');
  },
};

/** SQL that is to run in a database. */
interface Work {
  readonly database: string;
  readonly sql: string;
}

async function change(
  core: Core,
  options: { statement: GrantOnObject | RevokeOnObject; change: GrantChange; context: ExecuteContext },
): Promise<StatementResult> {
  const { statement, context } = options;
  const { object, privileges } = statement;
  const tag = options.change.kind.toUpperCase();
  if (object.kind === 'external_connections') {
    await changeConnectionPrivileges(core, {
      names: object.names,
      privileges,
      change: options.change,
      context,
    });
    return done(tag);
  }
  const work = await workOf(core, { ...options, object });
  const [only] = work;
  const isHere = work.every(({ database }) => database === context.session.database);
  if (isHere && only !== undefined && work.length === 1) return inSession(only.sql, tag);
  await runElsewhere(core, { work, context, tag });
  return done(tag);
}

async function workOf(
  core: Core,
  options: {
    statement: GrantOnObject | RevokeOnObject;
    object: Exclude<PrivilegeObject, { kind: 'external_connections' }>;
    change: GrantChange;
    context: ExecuteContext;
  },
): Promise<readonly Work[]> {
  const { statement, object, context } = options;
  const asker = askerOf(core, context);
  if (object.kind === 'databases') {
    const privileges = splitPrivileges(statement.privileges, 'database');
    await requireDatabases(asker, object.names);
    for (const database of object.names) await ensurePrivilegeStore(asker, database);
    return object.names.map((database) => ({
      database,
      sql: databaseGrantSql({ database, privileges, change: options.change }),
    }));
  }
  const privileges = splitPrivileges(statement.privileges, 'table');
  const current = context.session.database;
  const { database, tables }: TableTargets =
    object.kind === 'tables'
      ? await resolveTables(asker, { current, patterns: object.patterns })
      : { database: current, tables: object.names.map((schema) => ({ schema, name: undefined })) };
  if (database !== current) await requireDatabases(asker, [database]);
  // Admins reach tables of others by a function of it.
  if (await holdsPrivilege(asker, [])) await ensurePrivilegeStore(asker, database);
  return [{ database, sql: tableGrantSql({ tables, privileges, change: options.change }) }];
}

/**
 * In other databases than the session's, by sessions of the same role: what Postgres's transactions do not reach, they cannot take back.
 * @throws InputError `transaction_active`
 */
async function runElsewhere(
  core: Core,
  options: { work: readonly Work[]; context: ExecuteContext; tag: string },
): Promise<void> {
  const { work, context, tag } = options;
  const { session, signal } = context;
  if (context.transaction === 'in_transaction') {
    throw new InputError(
      'transaction_active',
      `${tag} in another database cannot be used inside a transaction`,
      {
        hint: `connect to database ${work.find(({ database }) => database !== session.database)?.database ?? ''}, or end the transaction first`,
      },
    );
  }
  const { instance } = askerOf(core, context);
  for (const { database, sql } of work) {
    try {
      await instance.withRoleClient({ database, role: session.user, signal }, (client) => client.query(sql));
    } catch (error) {
      throw asOurs(error);
    }
  }
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `${tag} in ${work.map(({ database }) => `database ${database}`).join(', ')} asked by ${session.user}`,
  );
}

/** Errors a GRANT may meet, by their SQLSTATE. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  '0LP01': 'grant_invalid',
  '2BP01': 'grant_dependent',
  '3D000': 'database_not_found',
  '3F000': 'object_not_found',
  '42501': 'insufficient_privilege',
  '42703': 'object_not_found',
  '42704': 'object_not_found',
  '42P01': 'table_not_found',
  '42P02': 'undefined_parameter',
};

/** What Postgres said in a session of ours, as an error of ours. */
function asOurs(thrown: unknown): unknown {
  if (thrown instanceof AppError) return thrown;
  const error = toError(thrown) as Error & { code?: string; hint?: string; detail?: string };
  const code = CODES[error.code ?? ''];
  if (code === undefined) return thrown;
  return new AppError(code, error.message, {
    cause: error,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.detail === undefined ? {} : { detail: error.detail }),
  });
}
