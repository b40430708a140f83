/**
 * Logical copies: definitions and rows of chosen objects, taken from one instance and made in another, or kept in between. The same whether they
 * come from a live database, a scratch copy or a backup.
 */

/** A database behind a private socket, and as whom to log in: never a superuser. */
export interface CopyEndpoint {
  readonly socketDirectory: string;
  readonly database: string;
  readonly role: string;
}

/** One piece of a dump: what makes an object, or changes one. Pieces stand in the order in which they can be run. */
export interface SchemaEntry {
  /** Of the piece in its dump. */
  readonly id: number;
  /** OID of the system catalog that the object is in, and the object's in it; 0 when the piece belongs to others. */
  readonly classOid: number;
  readonly oid: number;
  /** As pg_dump calls it: `TABLE`, `FK CONSTRAINT`, `SEQUENCE OWNED BY`, ... */
  readonly type: string;
  /** Ids of pieces that must be run before. */
  readonly dependencies: readonly number[];
  readonly sql: string;
}

/** What a copy is to hold. */
export type CopySelection =
  | { readonly kind: 'database' }
  | { readonly kind: 'tables'; readonly patterns: readonly CopyPattern[] };

/** A table, view, materialized view, foreign table or sequence. */
export interface CopyPattern {
  /** Undefined: all schemas of the tenant. */
  readonly schema: string | undefined;
  /** Undefined: everything in the schema. */
  readonly name: string | undefined;
}

/** An object by name, as `pg_identify_object` tells it. */
export interface ObjectName {
  /** `table`, `sequence`, `view`, `function`, `type`, `schema`, `extension`, ... */
  readonly type: string;
  /** Null for what is in no schema. */
  readonly schema: string | null;
  /** Null where only the identity tells: routines with their parameters. */
  readonly name: string | null;
  /** Unique among the objects of its type, each name quoted where it must be. */
  readonly identity: string;
  /** What a routine returns; null for all else. */
  readonly returns: string | null;
}

/** A piece of the copy's definitions. */
export interface CopyEntry {
  readonly id: number;
  readonly type: string;
  readonly sql: string;
  /** What it makes; null when it changes what others made. */
  readonly object: ObjectName | null;
  /** Id of the piece that makes what it belongs to: an index's table, the object of a comment; its own when it stands for itself. */
  readonly home: number;
  /** Pieces of this copy that make what it names. */
  readonly needs: readonly number[];
  /** What it names that this copy does not make. */
  readonly external: readonly ObjectName[];
  /** Of a type: equal where two types of one name mean the same. Else null. */
  readonly fingerprint: string | null;
}

/** A table whose rows are in the copy. */
export interface CopyTable {
  readonly entry: number;
  readonly oid: number;
  /** Where its heap lies. */
  readonly databaseOid: number;
  readonly filenode: number;
  /** Whether the log tells what changes in it. */
  readonly isLogged: boolean;
  readonly schema: string;
  readonly name: string;
  /** In the order of their values in a row. */
  readonly columns: readonly string[];
  /** `text` where the binary form means something else in another database. */
  readonly format: 'binary' | 'text';
  /** Of the heap when it was described; more may follow at once, which nobody of the snapshot sees. */
  readonly pages: number;
  /** On disk, with toast, without indexes. */
  readonly bytes: number;
  /** Number of its indexes. */
  readonly indexes: number;
  /** Its rows are kept out of copies: nothing of it is read. Left out otherwise. */
  readonly isExcluded?: boolean | undefined;
  /** Changes whenever rows in pages that did not change read differently. */
  readonly shape: string;
}

export interface CopySequence {
  readonly entry: number;
  readonly schema: string;
  readonly name: string;
  /** 64 bits, as decimal text. */
  readonly lastValue: string;
  readonly isCalled: boolean;
}

/** What a database is made with, where it differs from the template. */
export interface CopyDatabase {
  readonly name: string;
  readonly hasPublicSchema: boolean;
  /** How many sessions it admits at a time; left out when that is not limited. */
  readonly connectionLimit?: number | undefined;
  readonly encoding: string;
  readonly provider: string;
  readonly collate: string;
  readonly ctype: string;
  readonly locale: string | null;
  readonly icuRules: string | null;
  /** Settings of the database, `name=value`. */
  readonly settings: readonly string[];
  readonly comment: string | null;
}

/** All of a copy but its rows. Plain data: it can be kept, or sent to another process. */
export interface CopyDescription {
  readonly database: CopyDatabase;
  readonly isWholeDatabase: boolean;
  readonly entries: readonly CopyEntry[];
  readonly tables: readonly CopyTable[];
  readonly sequences: readonly CopySequence[];
  /** Entries of the materialized views that held rows, in an order in which they can be refreshed. */
  readonly populated: readonly number[];
  /** OIDs of large objects. */
  readonly largeObjects: readonly number[];
  /** Entries of tables that are marked so that their rows, and those of their partitions, are kept out. Missing when there are none. */
  readonly excluded?: readonly number[] | undefined;
}

/** Where the rows of a copy come from. */
export interface CopyRows {
  /** Whole COPY files one after the other, each an iterable of pieces; all in the table's format. */
  rowsOf(table: CopyTable): AsyncIterable<AsyncIterable<Uint8Array>>;
  largeObject(oid: number): AsyncIterable<Uint8Array>;
}
