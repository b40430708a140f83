/** Decides what of a copy is made in a database, given what the database has. Nothing is decided later. */
import { InputError } from '../base/index.ts';
import type { CopyDescription, CopyEntry, ObjectName } from './contract.ts';

/** What may be left out when what it names is neither in the copy nor in the database. */
export interface SkipMissing {
  readonly foreignKeys: boolean;
  readonly sequences: boolean;
  readonly sequenceOwners: boolean;
  readonly views: boolean;
  readonly functions: boolean;
}

/** What a database has already. */
export interface Present {
  /** `type identity` of objects. */
  readonly objects: ReadonlySet<string>;
  /** Of types, by identity: equal where they mean the same. */
  readonly fingerprints: ReadonlyMap<string, string>;
}

export interface RestorePlan {
  /** Made for the time of the restore only: defaults and checks that name them go with them. */
  readonly stubs: readonly ObjectName[];
  /** In order; rows come between the two. */
  readonly before: readonly CopyEntry[];
  readonly after: readonly CopyEntry[];
  /** Schemas that are there already and get objects. */
  readonly schemas: readonly string[];
  /** What was left out, for the log and for whoever asked. */
  readonly skipped: readonly string[];
}

export const SKIP_NOTHING: SkipMissing = {
  foreignKeys: false,
  sequences: false,
  sequenceOwners: false,
  views: false,
  functions: false,
};

/** Made after the rows: from the first of these on, everything is. */
const AFTER_ROWS = new Set([
  'CONSTRAINT',
  'CHECK CONSTRAINT',
  'FK CONSTRAINT',
  'INDEX',
  'INDEX ATTACH',
  'POLICY',
  'PUBLICATION',
  'PUBLICATION TABLE',
  'PUBLICATION TABLES IN SCHEMA',
  'ROW SECURITY',
  'RULE',
  'STATISTICS',
  'TRIGGER',
]);
const RELATIONS: Readonly<Record<string, string>> = {
  TABLE: 'table',
  VIEW: 'view',
  'MATERIALIZED VIEW': 'materialized view',
  'FOREIGN TABLE': 'foreign table',
  SEQUENCE: 'sequence',
};
const VIEWS = new Set(['VIEW', 'MATERIALIZED VIEW']);
const TYPES = new Set(['TYPE', 'DOMAIN', 'SHELL TYPE']);
/** Pieces that a table can be without. */
const DISPENSABLE = new Set([
  'CHECK CONSTRAINT',
  'CONSTRAINT',
  'DEFAULT',
  'INDEX',
  'POLICY',
  'RULE',
  'STATISTICS',
  'TRIGGER',
]);
const PUBLICATION_OF_ALL = /^CREATE PUBLICATION (?:"(?:[^"]|"")*"|\S+) FOR ALL TABLES/;
/** As what `pg_identify_object` names routines. */
const ROUTINES = new Set(['function', 'procedure', 'aggregate']);
const TABLES = new Set(['table', 'foreign table', 'view', 'materialized view']);

/** @throws InputError `table_exists`, `object_exists`, `object_missing` */
export function planRestore(
  copy: CopyDescription,
  options: { readonly present: Present; readonly skip: SkipMissing; readonly database: string },
): RestorePlan {
  return new Planner(copy, options).plan();
}

/** Key of an object among those that a database has. */
export function presentKey({ type, identity }: { type: string; identity: string }): string {
  return `${type} ${identity}`;
}

class Planner {
  readonly #copy: CopyDescription;
  readonly #present: Present;
  readonly #skip: SkipMissing;
  readonly #database: string;
  /** Pieces whose object is there already. */
  readonly #found = new Set<number>();
  readonly #dropped = new Set<number>();
  readonly #skipped: string[] = [];
  readonly #stubs = new Map<string, ObjectName>();

  constructor(
    copy: CopyDescription,
    options: { readonly present: Present; readonly skip: SkipMissing; readonly database: string },
  ) {
    this.#copy = copy;
    this.#present = options.present;
    this.#skip = options.skip;
    this.#database = options.database;
  }

  plan(): RestorePlan {
    for (const entry of this.#copy.entries) this.#meetSuperusers(entry);
    for (const entry of this.#copy.entries) this.#meetPresent(entry);
    for (const entry of this.#copy.entries) this.#meetMissing(entry);
    const kept = this.#copy.entries.filter(
      ({ id, home }) => !this.#dropped.has(id) && !this.#dropped.has(home) && !this.#found.has(home),
    );
    const firstAfter = kept.findIndex(({ type }) => AFTER_ROWS.has(type));
    const boundary = firstAfter < 0 ? kept.length : firstAfter;
    const schemas = kept.flatMap(({ object }) => object?.schema ?? []);
    const made = new Set(kept.filter(({ type }) => type === 'SCHEMA').map(({ object }) => object?.name));
    return {
      stubs: [...this.#stubs.values()],
      before: kept.slice(0, boundary),
      after: kept.slice(boundary),
      schemas: [...new Set(schemas)].filter((schema) => !made.has(schema)),
      skipped: this.#skipped,
    };
  }

  /** What publishes tables that are yet to be made is made by superusers alone, and nobody's rows depend on it. */
  #meetSuperusers(entry: CopyEntry): void {
    const publishesAll = entry.type === 'PUBLICATION' && PUBLICATION_OF_ALL.test(entry.sql);
    if (!publishesAll && entry.type !== 'PUBLICATION TABLES IN SCHEMA') return;
    this.#dropped.add(entry.id);
    this.#skipped.push(
      `${entry.type.toLowerCase()} ${entry.object?.identity ?? ''}: only a superuser can make it`,
    );
  }

  #meetPresent(entry: CopyEntry): void {
    const { object, type } = entry;
    if (object === null || entry.home !== entry.id) return;
    if (type === 'SCHEMA' || type === 'EXTENSION') {
      if (this.#present.objects.has(presentKey(object))) this.#found.add(entry.id);
      return;
    }
    if (TYPES.has(type)) return this.#meetType(entry, object);
    if (RELATIONS[type] === undefined || !this.#hasRelation(object)) return;
    throw new InputError(
      'table_exists',
      `relation "${object.identity}" already exists in database "${this.#database}"`,
      {
        hint: 'drop or rename it, or restore into another database with into_db',
      },
    );
  }

  #meetType(entry: CopyEntry, object: ObjectName): void {
    const present = this.#present.fingerprints.get(object.identity);
    if (present === undefined) return;
    if (present !== entry.fingerprint) {
      throw new InputError(
        'object_exists',
        `type "${object.identity}" in database "${this.#database}" is not compatible with the type of that name in the backup`,
        { hint: 'rename or change it there, or restore into another database with into_db' },
      );
    }
    this.#found.add(entry.id);
  }

  /** Relations of all kinds share their names. */
  #hasRelation({ identity }: ObjectName): boolean {
    return [...TABLES, 'sequence', 'index'].some((type) => this.#present.objects.has(`${type} ${identity}`));
  }

  #meetMissing(entry: CopyEntry): void {
    if (this.#dropped.has(entry.home) || this.#found.has(entry.home)) return;
    const lost = entry.needs.filter((id) => this.#dropped.has(id));
    if (lost.length > 0) return this.#drop(entry);
    for (const object of entry.external) {
      // The whole of a partition's index: attached only when both are there.
      if (object.type === 'index' || this.#present.objects.has(presentKey(object))) continue;
      this.#miss(entry, object);
      if (this.#dropped.has(entry.id)) return;
    }
  }

  #miss(entry: CopyEntry, object: ObjectName): void {
    if (VIEWS.has(entry.type) || VIEWS.has(this.#homeOf(entry).type)) {
      const what = `cannot restore view "${this.#nameOf(entry)}" without restoring referenced object "${object.identity}"`;
      return this.#dropIf(this.#skip.views, this.#homeOf(entry), { what, option: 'skip_missing_views' });
    }
    if (entry.type === 'FK CONSTRAINT' && TABLES.has(object.type)) {
      const what = `cannot restore table "${this.#nameOf(entry)}" without referenced table "${object.identity}"`;
      return this.#dropIf(this.#skip.foreignKeys, entry, { what, option: 'skip_missing_foreign_keys' });
    }
    if (entry.type === 'SEQUENCE OWNED BY') {
      const what = `cannot restore sequence "${this.#nameOf(entry)}" without referenced owner table "${object.identity}"`;
      return this.#dropIf(this.#skip.sequenceOwners, entry, { what, option: 'skip_missing_sequence_owners' });
    }
    if (object.type === 'role') {
      throw new InputError(
        'object_missing',
        `cannot restore "${this.#nameOf(entry)}" without role ${object.identity}, which policies of it are for`,
        { hint: 'make the role first: it needs no LOGIN' },
      );
    }
    const canBeWithout = entry.type === 'TABLE' || DISPENSABLE.has(entry.type);
    if (object.type === 'sequence' && canBeWithout) {
      const what = `cannot restore table "${this.#nameOf(entry)}" without referenced sequence "${object.identity}"`;
      return this.#stubIf(this.#skip.sequences, entry, { object, what, option: 'skip_missing_sequences' });
    }
    if (ROUTINES.has(object.type) && canBeWithout) {
      const what = `cannot restore table "${this.#nameOf(entry)}" without referenced function "${object.identity}"`;
      return this.#stubIf(this.#skip.functions, entry, { object, what, option: 'skip_missing_udfs' });
    }
    throw new InputError(
      'object_missing',
      `cannot restore "${this.#nameOf(entry)}" without ${object.type} "${object.identity}", which is neither restored nor in database "${this.#database}"`,
      { hint: 'restore what it needs with it, or make it first' },
    );
  }

  #stubIf(
    isSkipped: boolean,
    entry: CopyEntry,
    { object, what, option }: { object: ObjectName; what: string; option: string },
  ): void {
    if (DISPENSABLE.has(entry.type)) return this.#dropIf(isSkipped, entry, { what, option });
    if (!isSkipped) throw missing(what, option);
    this.#stubs.set(presentKey(object), object);
    this.#skipped.push(
      `what of table ${this.#nameOf(entry)} uses ${object.type} ${object.identity}, which is missing`,
    );
  }

  #dropIf(isSkipped: boolean, entry: CopyEntry, { what, option }: { what: string; option: string }): void {
    if (!isSkipped) throw missing(what, option);
    this.#drop(entry);
  }

  #drop(entry: CopyEntry): void {
    this.#dropped.add(entry.id);
    this.#skipped.push(
      `${entry.type.toLowerCase()} ${entry.object?.identity ?? `of ${this.#nameOf(entry)}`}: what it names is missing`,
    );
  }

  #homeOf(entry: CopyEntry): CopyEntry {
    return this.#copy.entries.find(({ id }) => id === entry.home) ?? entry;
  }

  #nameOf(entry: CopyEntry): string {
    return this.#homeOf(entry).object?.identity ?? entry.type.toLowerCase();
  }
}

function missing(what: string, option: string): InputError {
  return new InputError('object_missing', `${what} (or "${option}" option)`, {
    hint: `name what is missing too, make it first, or add WITH ${option}`,
  });
}
