/** Makes a logical copy in a database, in one transaction: all of it is there afterwards, or nothing. */
import type {
  CopyDescription,
  CopyEndpoint,
  CopyEntry,
  CopyRows,
  CopyTable,
  ObjectName,
} from './contract.ts';
import { joinCopyFiles } from './copy-files.ts';
import { markSql } from './exclusion.ts';
import { REGIONS_SETTING } from './regions.ts';
import { planRestore, type Present, presentKey, type RestorePlan, type SkipMissing } from './plan-restore.ts';
import { readFingerprints } from './fingerprints.ts';
import { column, CopySession, numberColumn, quoted } from './session.ts';

export interface RestoreCopyOptions {
  /** Definitions only. */
  readonly schemaOnly: boolean;
  readonly skip: SkipMissing;
  /** To whom all of it belongs in the end, when it is not who makes it. The role that makes it must be allowed to give it. */
  readonly owner: string | null;
  readonly onProgress: (progress: { readonly fraction: number; readonly phase: string }) => void;
  readonly signal: AbortSignal;
}

/** Another session in the same database, and rows that may be read while others are. */
export interface CopyHelper {
  readonly session: CopySession;
  readonly rows: CopyRows;
}

export interface RestoredCopy {
  readonly rows: bigint;
  readonly indexEntries: bigint;
  /** Of the COPY files. */
  readonly bytes: bigint;
  readonly skipped: readonly string[];
}

/** A database into which something is to be copied. */
export class CopyTarget implements AsyncDisposable {
  readonly #session: CopySession;
  readonly #database: string;

  /** @throws as `CopySession.open` */
  static async open(endpoint: CopyEndpoint, options: { signal: AbortSignal }): Promise<CopyTarget> {
    return new CopyTarget(await CopySession.open(endpoint, options), endpoint.database);
  }

  private constructor(session: CopySession, database: string) {
    this.#session = session;
    this.#database = database;
  }

  /** What would be made. Changes nothing. @throws InputError `table_exists`, `object_exists`, `object_missing` */
  async plan(copy: CopyDescription, { skip }: { skip: SkipMissing }): Promise<RestorePlan> {
    return planRestore(copy, { present: await readPresent(this.#session), skip, database: this.#database });
  }

  /**
   * Makes it all and commits. Whatever fails, nothing of it is left; with helpers, who work in transactions of their own, all of it may be:
   * for a database that is dropped then.
   * @throws InputError as `plan`; AppError `copy_failed`, `insufficient_privilege`, `disk_full`, `connection_failure`, `cancelled`
   */
  async restore(
    copy: CopyDescription,
    parts: { rows: CopyRows; options: RestoreCopyOptions; helpers?: readonly CopyHelper[] },
  ): Promise<RestoredCopy> {
    const { rows, options, helpers = [] } = parts;
    await this.#session.query('begin');
    const plan = await this.plan(copy, options);
    await this.#makeDefinitions(plan);
    const made = new Set(plan.before.map(({ id }) => id));
    const kept = {
      ...copy,
      tables: copy.tables.filter(({ entry }) => made.has(entry)),
      sequences: copy.sequences.filter(({ entry }) => made.has(entry)),
    };
    const lanes = [{ session: this.#session, rows }, ...helpers];
    const isShared = helpers.length > 0;
    // Others see only what is committed.
    if (isShared) await this.#session.query('commit');
    const copied = options.schemaOnly ? NOTHING : await this.#copyTables(kept, { lanes, options });
    options.onProgress({ fraction: 0.8, phase: 'building indexes and constraints' });
    const built = isShared ? await this.#buildTogether(plan, lanes) : new Set<number>();
    if (isShared) await this.#session.query('begin');
    if (!options.schemaOnly) await this.#copyRest(kept, rows);
    for (const entry of plan.after) if (!built.has(entry.id)) await this.#make(entry);
    if (!options.schemaOnly) await this.#refresh(copy, plan);
    const indexEntries = options.schemaOnly ? 0n : indexEntriesOf(kept, copied.rowsByTable);
    if (!options.schemaOnly)
      for (const { schema, name } of kept.tables) await this.#run(`analyze ${path(schema, name)}`, name);
    for (const { id, object } of plan.before) {
      if (object !== null && copy.excluded?.includes(id) === true) await this.#exclude(object.identity);
    }
    if (options.owner !== null) await this.#giveAway(plan, options.owner);
    options.onProgress({ fraction: 0.98, phase: 'committing' });
    if (copy.isWholeDatabase) await this.#finishDatabase(copy);
    await this.#mark({ rows: copied.rows, indexEntries, bytes: copied.bytes });
    await this.#session.query('commit');
    return { rows: copied.rows, bytes: copied.bytes, indexEntries, skipped: plan.skipped };
  }

  /** What is said of the database itself. */
  async #finishDatabase({ database }: CopyDescription): Promise<void> {
    const name = quoted(this.#database);
    if (!database.hasPublicSchema) await this.#run('drop schema if exists public', 'public');
    for (const setting of database.settings) {
      const [parameter = '', value = ''] = splitSetting(setting);
      // Only a superuser can set these; whoever made the database does.
      if (parameter === REGIONS_SETTING) continue;
      // What is a list is kept as one, as Postgres writes it.
      const isList = parameter.toLowerCase() === 'search_path';
      await this.#run(
        `alter database ${name} set ${quoted(parameter)} to ${isList ? value || "''" : literal(value)}`,
        parameter,
      );
    }
    if (database.connectionLimit !== undefined)
      await this.#run(`alter database ${name} connection limit ${database.connectionLimit}`, this.#database);
    if (database.comment !== null) {
      await this.#run(`comment on database ${name} is ${literal(database.comment)}`, this.#database);
    }
  }

  /** Together with all the rest, the role says that it is done: whoever asks after a crash knows. */
  async #mark({ rows, indexEntries, bytes }: Omit<RestoredCopy, 'skipped'>): Promise<void> {
    await this.#session.query(
      `alter role current_user set application_name = 'atoll copied ${rows} ${indexEntries} ${bytes}'`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }

  /** What is missing is there for as long as something is made that names it, and takes that with it. */
  async #makeDefinitions({ before, stubs }: RestorePlan): Promise<void> {
    const early = before.findIndex(({ type }) => !MADE_FIRST.has(type));
    const tables = early < 0 ? before.length : early;
    for (const entry of before.slice(0, tables)) await this.#make(entry);
    const schemas = [];
    for (const stub of stubs) schemas.push(...(await this.#makeStub(stub)));
    for (const entry of before.slice(tables)) await this.#make(entry);
    for (const { type, identity } of stubs) await this.#run(`drop ${type} ${identity} cascade`, identity);
    for (const schema of schemas) await this.#run(`drop schema ${quoted(schema)}`, schema);
  }

  #make({ sql, object, type }: CopyEntry): Promise<void> {
    return this.#run(sql, object?.identity ?? type.toLowerCase());
  }

  #run(sql: string, what: string): Promise<void> {
    return this.#session.run(sql, `cannot make ${what}`);
  }

  /** The largest first. */
  async #copyTables(
    copy: CopyDescription,
    { lanes, options }: { lanes: readonly CopyHelper[]; options: RestoreCopyOptions },
  ): Promise<Copied> {
    const total = copy.tables.reduce((sum, { bytes }) => sum + bytes + 1, 0);
    const copied = { rows: 0n, bytes: 0n, rowsByTable: new Map<number, bigint>() };
    let done = 0;
    await inLanes(copy.tables, lanes, async (table, { session, rows }) => {
      const isShared = lanes.length > 1;
      // A table that this transaction has emptied is as good as one that it has made.
      if (isShared) {
        await session.query('begin');
        await session.run(`truncate only ${path(table.schema, table.name)}`, `cannot fill ${table.name}`);
      }
      const counted = await copyTable(session, table, rows);
      if (isShared) await session.query('commit');
      copied.rows += counted.rows;
      copied.bytes += counted.bytes;
      copied.rowsByTable.set(table.entry, counted.rows);
      done += table.bytes + 1;
      options.onProgress({ fraction: (done / total) * 0.8, phase: 'copying rows' });
    });
    return copied;
  }

  /** Indexes, and constraints that are indexes, of several tables at a time; gives what was made. */
  async #buildTogether(plan: RestorePlan, lanes: readonly CopyHelper[]): Promise<ReadonlySet<number>> {
    const later = new Set(plan.after.map(({ id }) => id));
    const alone = plan.after.filter(
      ({ type, needs }) => BUILT_TOGETHER.has(type) && !needs.some((id) => later.has(id)),
    );
    const byTable = [...Map.groupBy(alone, ({ home }) => home).values()];
    await inLanes(byTable, lanes, async (entries, { session }) => {
      for (const { sql, object, type } of entries) {
        await session.run(sql, `cannot make ${object?.identity ?? type.toLowerCase()}`);
      }
    });
    return new Set(alone.map(({ id }) => id));
  }

  async #copyRest(copy: CopyDescription, rows: CopyRows): Promise<void> {
    for (const { schema, name, lastValue, isCalled } of copy.sequences) {
      await this.#session.query('select setval($1::regclass, $2::int8, $3::bool)', [
        path(schema, name),
        lastValue,
        isCalled,
      ]);
    }
    for (const oid of copy.largeObjects) await this.#copyLargeObject(oid, rows);
  }

  async #copyLargeObject(oid: number, rows: CopyRows): Promise<void> {
    await this.#session.query('select lo_create($1::oid)', [oid]);
    let offset = 0n;
    for await (const piece of rows.largeObject(oid)) {
      await this.#session.query("select lo_put($1::oid, $2::int8, decode($3, 'base64'))", [
        oid,
        String(offset),
        Buffer.from(piece).toString('base64'),
      ]);
      offset += BigInt(piece.length);
    }
  }

  async #refresh(copy: CopyDescription, plan: RestorePlan): Promise<void> {
    const made = new Map([...plan.before, ...plan.after].map((entry) => [entry.id, entry]));
    for (const id of copy.populated) {
      const view = made.get(id)?.object?.identity;
      if (view !== undefined) await this.#run(`refresh materialized view ${view}`, view);
    }
  }

  /** The mark goes with the table to its owner. */
  #exclude(table: string): Promise<void> {
    return this.#run(markSql({ table, owner: 'current_user' }), table);
  }

  /** An owner needs CREATE where its objects are; it is lent, within this transaction. */
  async #giveAway(plan: RestorePlan, owner: string): Promise<void> {
    const to = quoted(owner);
    const made = plan.before
      .filter(({ type }) => type === 'SCHEMA')
      .flatMap(({ object }) => object?.name ?? []);
    const database = quoted(this.#database);
    if (made.length > 0) await this.#run(`grant create on database ${database} to ${to}`, owner);
    for (const schema of [...plan.schemas, ...made])
      await this.#run(`grant create on schema ${quoted(schema)} to ${to}`, owner);
    await this.#run(`reassign owned by current_user to ${to}`, owner);
    for (const schema of plan.schemas)
      await this.#run(`revoke create on schema ${quoted(schema)} from ${to}`, owner);
    if (made.length > 0) await this.#run(`revoke create on database ${database} from ${to}`, owner);
  }

  /** Gives the schema that had to be made for it. */
  async #makeStub({ type, identity, schema, returns }: ObjectName): Promise<readonly string[]> {
    const found = await this.#session.query('select from pg_namespace where nspname = $1', [schema]);
    const isMade = schema !== null && found.length === 0;
    if (isMade) await this.#run(`create schema ${quoted(schema)}`, schema);
    const result = type === 'function' ? ` returns ${returns ?? 'void'}` : '';
    const body =
      type === 'sequence' ? '' : `${result} language plpgsql immutable as 'begin return null; end'`;
    await this.#run(`create ${type} ${identity}${body}`, identity);
    return isMade ? [schema] : [];
  }
}

/** Into a table that this transaction has made or emptied, so that the rows need no further care. */
async function copyTable(
  session: CopySession,
  table: CopyTable,
  rows: CopyRows,
): Promise<{ rows: bigint; bytes: bigint }> {
  const to = path(table.schema, table.name);
  const columns = table.columns.length === 0 ? '' : ` (${table.columns.map(quoted).join(', ')})`;
  let bytes = 0n;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of joinCopyFiles(rows.rowsOf(table), { format: table.format, name: to })) {
      bytes += BigInt(piece.length);
      yield piece;
    }
  };
  const count = await session.copyIn(
    `copy ${to}${columns} from stdin (format ${table.format}, freeze)`,
    counted(),
    `cannot copy rows into ${to}`,
  );
  return { rows: count, bytes };
}

/** Each lane takes the next when it is done with one. The first failure ends all of them, and is the one that is told. */
async function inLanes<T>(
  tasks: readonly T[],
  lanes: readonly CopyHelper[],
  work: (task: T, lane: CopyHelper) => Promise<void>,
): Promise<void> {
  const queue = tasks.values();
  const failures: unknown[] = [];
  await Promise.all(
    lanes.map(async (lane) => {
      try {
        for (const task of queue) {
          if (failures.length > 0) return;
          await work(task, lane);
        }
      } catch (error) {
        failures.push(error);
        // What the others are at is undone by Postgres.
        if (failures.length === 1) for (const { session } of lanes) await session[Symbol.asyncDispose]();
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
}

/** What is made of one table alone, and takes time. */
const BUILT_TOGETHER = new Set(['INDEX', 'CONSTRAINT']);
/** Types and what they lie in, which stand at the beginning. */
const MADE_FIRST = new Set(['SCHEMA', 'EXTENSION', 'SHELL TYPE', 'TYPE', 'DOMAIN', 'COMMENT']);

interface Copied {
  readonly rows: bigint;
  readonly bytes: bigint;
  readonly rowsByTable: ReadonlyMap<number, bigint>;
}

const NOTHING: Copied = { rows: 0n, bytes: 0n, rowsByTable: new Map() };

export function path(schema: string, name: string): string {
  return `${quoted(schema)}.${quoted(name)}`;
}

/** `name=value`. */
function splitSetting(setting: string): readonly string[] {
  const at = setting.indexOf('=');
  return [setting.slice(0, at), setting.slice(at + 1)];
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Each index has an entry for each row; partial ones have fewer. */
function indexEntriesOf(copy: CopyDescription, rows: ReadonlyMap<number, bigint>): bigint {
  return copy.tables.reduce((sum, { entry, indexes }) => sum + (rows.get(entry) ?? 0n) * BigInt(indexes), 0n);
}

async function readPresent(session: CopySession): Promise<Present> {
  const rows = await session.query(
    `select i.type, i.identity from (select 'pg_class'::regclass as class, oid from pg_class where relkind <> 't' and oid >= 16384
          union all select 'pg_proc'::regclass, oid from pg_proc where oid >= 16384
          union all select 'pg_type'::regclass, oid from pg_type where oid >= 16384
          union all select 'pg_namespace'::regclass, oid from pg_namespace
          union all select 'pg_extension'::regclass, oid from pg_extension
          union all select 'pg_collation'::regclass, oid from pg_collation where oid >= 16384
          union all select 'pg_ts_config'::regclass, oid from pg_ts_config where oid >= 16384
          union all select 'pg_operator'::regclass, oid from pg_operator where oid >= 16384
          union all select 'pg_opclass'::regclass, oid from pg_opclass where oid >= 16384
          union all select 'pg_language'::regclass, oid from pg_language where oid >= 16384
          union all select 'pg_foreign_server'::regclass, oid from pg_foreign_server
          union all select 'pg_authid'::regclass, oid from pg_roles) o,
        pg_identify_object(o.class, o.oid, 0) i where i.identity is not null`,
  );
  const fingerprints = await readFingerprints(session);
  const types = await session.query(
    "select oid::text as oid, (pg_identify_object('pg_type'::regclass, oid, 0)).identity from pg_type where oid >= 16384",
  );
  return {
    objects: new Set(
      rows.map((row) => presentKey({ type: column(row, 'type'), identity: column(row, 'identity') })),
    ),
    fingerprints: new Map(
      types.flatMap((row): [string, string][] => {
        const fingerprint = fingerprints.get(numberColumn(row, 'oid'));
        return fingerprint === undefined ? [] : [[column(row, 'identity'), fingerprint]];
      }),
    ),
  };
}
