export { createDatabaseSql } from './create-database.ts';
export type * from './contract.ts';
export { isExcluded, isMarked, markSql, unmarkSql } from './exclusion.ts';
export { narrow, relationsOf } from './narrow.ts';
export { SKIP_NOTHING, type SkipMissing } from './plan-restore.ts';
export { REGIONS_SETTING, regionsOf, regionStatements, regionsText } from './regions.ts';
export { CopySource, type PageRange, pageRanges, type SourceOptions } from './source.ts';
export { CopySession } from './session.ts';
export { type CopyHelper, CopyTarget, type RestoreCopyOptions, type RestoredCopy } from './target.ts';
