/**
 * What of a PostgreSQL distribution instances may see. An extension that is not here cannot be created by anyone, and
 * the libraries of those left out cannot be loaded.
 */

/** Extensions that upstream trusts: whoever may create objects in a database may create these. */
const TRUSTED_EXTENSIONS = [
  'btree_gin',
  'btree_gist',
  'citext',
  'cube',
  'dict_int',
  'fuzzystrmatch',
  'hstore',
  'intarray',
  'isn',
  'lo',
  'ltree',
  'pg_trgm',
  'pgcrypto',
  'plpgsql',
  'seg',
  'tablefunc',
  'tsm_system_rows',
  'tsm_system_time',
  'unaccent',
  'uuid-ossp',
] as const;

/** Only the superuser creates these: they read pages, logs and memory, or upstream does not trust their scripts. */
const UNTRUSTED_EXTENSIONS = [
  'amcheck',
  'earthdistance',
  'pageinspect',
  'pg_buffercache',
  'pg_freespacemap',
  'pg_prewarm',
  'pg_stat_statements',
  'pg_visibility',
  'pg_walinspect',
  'pgstattuple',
] as const;

export const EXTENSIONS: readonly string[] = [...TRUSTED_EXTENSIONS, ...UNTRUSTED_EXTENSIONS];

/** Libraries that belong to no extension: text search, replication, output plugins. */
const CORE_LIBRARIES = ['dict_snowball', 'libpqwalreceiver', 'pgoutput', 'test_decoding'];
/** Conversions between encodings, `utf8_and_win` and its kind. */
const CONVERSION_LIBRARY = /^[a-z0-9_]+_and_[a-z0-9_]+$/;

/** True for a file of the extension folder that belongs to an extension of the list. */
export function isWantedExtensionFile(name: string): boolean {
  const extension = /^(.+?)(?:\.control|--.*\.sql)$/.exec(name)?.[1];
  return extension !== undefined && EXTENSIONS.includes(extension);
}

/** The library an extension's control file names, without folder and ending; undefined when it has none. */
export function libraryOfControlFile(text: string): string | undefined {
  return /^\s*module_pathname\s*=\s*'\$libdir\/([\w-]+)'/m.exec(text)?.[1];
}

/** True for a file of the library folder that may be loaded, given the libraries of the wanted extensions. */
export function isWantedLibrary(name: string, extensionLibraries: readonly string[]): boolean {
  const library = /^(.+)\.(?:so|dylib)$/.exec(name)?.[1];
  if (library === undefined) return false;
  return (
    CORE_LIBRARIES.includes(library) ||
    extensionLibraries.includes(library) ||
    CONVERSION_LIBRARY.test(library)
  );
}
