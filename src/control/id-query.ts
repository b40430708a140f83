/**
 * A query that names jobs or schedules. It is the client's own and runs as the client: in a session of that role, which only reads. What
 * stands in it of ours (`[SHOW JOBS]`) is answered first and passed in as a value.
 */
import { InputError, toError } from '../base/index.ts';
import type { SqlClient } from '../catalog/index.ts';
import { findRowSources, highestPlaceholder, type SystemTable } from '../sql/index.ts';
import type { ExecuteContext } from './contract.ts';
import type { Core } from './core.ts';
import { derivedTable, rowsToJson } from './row-source-text.ts';
import { askerOf } from './use-case.ts';
import { parseId } from './values.ts';

/** Most jobs or schedules that one statement takes. */
export const IDS_MAX = 10_000;
const QUERY_SECONDS_MAX = 60;

/**
 * The numbers that a query yields, each once, in its order; NULLs are passed over.
 * @throws InputError `parameter_invalid` for what is no number or too many, and with what Postgres says of the query
 */
export async function idsOf(
  core: Core,
  options: { query: string; of: 'job' | 'schedule'; context: ExecuteContext },
): Promise<readonly bigint[]> {
  const { query, of, context } = options;
  const { session, signal } = context;
  const { sql, parameters } = await answered(core, query, context);
  const { instance } = askerOf(core, context);
  const rows = await instance
    .withRoleClient({ role: session.user, database: session.database, signal }, async (client) => {
      await client.query('begin transaction read only');
      // Names resolve as clients are used to; nothing here has rights that the client lacks.
      await client.query('set local search_path = "$user", public');
      await client.query(`set local statement_timeout = '${QUERY_SECONDS_MAX}s'`);
      return client.query(`select * from (${sql}) as ids limit ${IDS_MAX + 1}`, parameters);
    })
    .catch((error: unknown) => {
      throw queryFailed(error, of);
    });
  if (rows.length > IDS_MAX) {
    throw new InputError('limit_exceeded', `the query names more than ${IDS_MAX} ${of}s`);
  }
  const ids = rows.map((row) => onlyValue(Object.values(row), of)).filter((text) => text !== null);
  return [...new Set(ids.map((text) => parseId(text, of)))];
}

/** The query with every row source of ours replaced by its rows, and the values it needs. */
async function answered(
  core: Core,
  query: string,
  context: ExecuteContext,
): Promise<{ sql: string; parameters: readonly (string | null)[] }> {
  const parameters = context.parameters.slice(0, highestPlaceholder(query));
  const pieces: string[] = [];
  let at = 0;
  const { session, signal } = context;
  const { instance } = askerOf(core, context);
  for (const { node, begin, end, alias } of findRowSources(query)) {
    if (node.kind === 'show_system_table') {
      const { table } = node;
      const isTenants = await instance.withReaderClient({ database: session.database, signal }, (client) =>
        hasTableOfItsOwn(client, table),
      );
      if (isTenants) continue;
    }
    const result = await core.answer(node, context);
    if (result.kind !== 'rows') {
      throw new InputError('syntax', 'statement source returns no columns');
    }
    parameters.push(rowsToJson(result));
    pieces.push(
      query.slice(at, begin),
      derivedTable(result.columns, { value: `$${parameters.length}`, alias }),
    );
    at = end;
  }
  pieces.push(query.slice(at));
  return { sql: pieces.join(''), parameters };
}

/** Whether the database has a schema `system` with a table of that name: then the name means that. */
async function hasTableOfItsOwn(client: SqlClient, table: SystemTable): Promise<boolean> {
  const rows = await client.query('select from pg_catalog.to_regclass($1) found where found is not null', [
    `system.${table}`,
  ]);
  return rows.length > 0;
}

function onlyValue(values: readonly (string | null)[], of: string): string | null {
  const [value, ...others] = values;
  if (value === undefined || others.length > 0) {
    throw new InputError('parameter_invalid', `the query must yield one column, the ${of} IDs`);
  }
  return value;
}

/** What is wrong with a query is the client's to know, under Postgres's own words. */
function queryFailed(error: unknown, of: string): unknown {
  if (!(error instanceof Error) || !('severity' in error)) return error;
  return new InputError('parameter_invalid', `the query for ${of} IDs failed: ${toError(error).message}`, {
    cause: error,
  });
}
