/** The `system` database of one virtual cluster, as far as our records need it. */
import { type Timestamp, toError } from '../base/index.ts';

/** A row of a query: column name to text value. */
export type Row = Readonly<Record<string, string | null>>;

/** A session of the bootstrap superuser. Values travel as parameters, never in the text. */
export interface SqlClient {
  query(sql: string, parameters?: readonly (string | null)[]): Promise<readonly Row[]>;
}

/** Lends sessions in one virtual cluster's `system` database. An `Instance` is one. */
export interface SystemDatabase {
  withSystemClient<T>(use: (client: SqlClient) => Promise<T>, options: { signal: AbortSignal }): Promise<T>;
}

/** Runs `use` in one transaction: all of it is durable when this returns, none of it when it throws. */
export async function inTransaction<T>(client: SqlClient, use: () => Promise<T>): Promise<T> {
  await client.query('begin');
  try {
    const result = await use();
    await client.query('commit');
    return result;
  } catch (error) {
    await client.query('rollback').catch((rollbackError: unknown) => {
      throw new AggregateError(
        [toError(error), toError(rollbackError)],
        'a transaction could not be rolled back',
      );
    });
    throw error;
  }
}

/** SQL for a `timestamptz` column as whole microseconds since 1970, whatever the session's time zone. */
export function microsecondsOf(column: string): string {
  return `(extract(epoch from ${column}) * 1000000)::bigint`;
}

/** A column that the query's own SQL guarantees to be there and not null. */
export function textOf(row: Row, column: string): string {
  const value = row[column];
  if (value === undefined || value === null) throw new TypeError(`column ${column} is missing or null`);
  return value;
}

/** Postgres holds neither zero bytes nor halves of characters; a message that has one must not keep a state from being written. */
export function storable<Text extends string | null>(text: Text): Text;
export function storable(text: string | null): string | null {
  return text === null ? null : text.toWellFormed().replaceAll('\0', '\ufffd');
}

/** A column made by `microsecondsOf`. */
export function timestampOf(microseconds: string | null | undefined): Timestamp | null {
  return microseconds === null || microseconds === undefined ? null : (BigInt(microseconds) as Timestamp);
}
