/**
 * A part of a virtual cluster out of an image of the whole: only the files that it needs are written, and replay does the rest. Names are
 * those of the moment that is restored, of which the image's map of relations knows nothing: it is a guess. Whether enough was
 * written is proved afterwards, by `provePart`; when it was not, the image is written again with what was missing.
 */
import type { Lsn } from '../../base/index.ts';

/** What to write of an image. All that is no relation, all that databases share, and what the server itself starts with, is written in any case. */
export interface ImagePart {
  readonly databases: readonly DatabasePart[];
  /** What an earlier attempt has found missing. */
  readonly added: readonly AddedFiles[];
}

/** A database, by the name it may have; its catalogs are written in any case. */
export interface DatabasePart {
  readonly name: string;
  readonly relations: 'everything' | readonly RelationPattern[];
}

/** Null stands for any. */
export interface RelationPattern {
  readonly schema: string | null;
  readonly name: string | null;
}

export interface AddedFiles {
  readonly databaseOid: number;
  /** Numbers of files of relations. */
  readonly what: 'catalogs' | 'everything' | readonly number[];
}

/** What a directory holds that a part was written to, and what its log makes. */
export interface ImageCoverage {
  /** Of every database that the image has files of. */
  readonly databases: readonly DatabaseCoverage[];
  readonly origins: LogOrigins;
}

export interface DatabaseCoverage {
  readonly databaseOid: number;
  readonly hasCatalogs: boolean;
  /** Numbers of files of relations, ascending: those that were written, and those that were left out. */
  readonly kept: Uint32Array;
  readonly leftOut: Uint32Array;
}

/** What the log makes anew between the beginning of the image and the moment that is restored: all of it is in the log. */
export interface LogOrigins {
  readonly created: readonly CreatedForks[];
  /** Databases whose every page is in the log. */
  readonly loggedDatabases: readonly number[];
  /** Databases whose files were copied without a word of their content. */
  readonly copies: readonly DatabaseCopy[];
  /**
   * Before this position nothing was written by transactions that are open at the moment that is restored: from here on the log names all
   * that they may commit later. Null when nobody knows.
   */
  readonly quietLsn: Lsn | null;
}

export interface CreatedForks {
  readonly databaseOid: number;
  /** `forkKey`, ascending. */
  readonly keys: Float64Array;
  /** Where each was created first. */
  readonly lsns: BigUint64Array;
}

export interface DatabaseCopy {
  readonly databaseOid: number;
  readonly fromDatabaseOid: number;
  readonly lsn: Lsn;
}

/** A fork of a relation whose content is wanted: `init` of unlogged relations, whose other forks are made anew from it. */
export interface WantedFork {
  readonly databaseOid: number;
  readonly filenode: number;
  readonly fork: 'main' | 'init';
}

/** What is still to be written so that replay makes all that is wanted. */
export interface PartProof {
  /** Nothing when the part is proved. */
  readonly missing: readonly AddedFiles[];
  /** Neither the image nor the log has them: what was asked for cannot be made. */
  readonly lost: readonly WantedFork[];
}
