/** Rows of SHOW BACKUP for what a logical backup holds. */
import { type CopyEntry, type CopySource, regionsOf } from '../../logical-copy/index.ts';
import type { ManifestCopy, ManifestObject } from '../format/manifest.ts';

const KINDS: Readonly<Record<string, ManifestObject['kind']>> = {
  SCHEMA: 'schema',
  TYPE: 'type',
  DOMAIN: 'type',
  TABLE: 'table',
  VIEW: 'table',
  'MATERIALIZED VIEW': 'table',
  'FOREIGN TABLE': 'table',
  SEQUENCE: 'table',
};

/** What there is to say of a copy: sizes and rows of the tables that it took. */
export interface DescribedCopy {
  readonly database: { readonly name: string; readonly settings: readonly string[] };
  readonly entries: readonly DescribedEntry[];
  readonly tables: readonly Pick<ManifestCopy['tables'][number], 'entry' | 'oid' | 'bytes' | 'ranges'>[];
  readonly excluded?: readonly number[] | undefined;
}

type DescribedEntry = Pick<CopyEntry, 'id' | 'type' | 'sql' | 'object' | 'home' | 'external'>;

/** The database, its schemas, types, and all kinds of relations. */
export async function describeObjects(
  source: CopySource,
  copy: DescribedCopy,
): Promise<readonly ManifestObject[]> {
  const database = copy.database.name;
  const rights = await source.rights();
  const none = { sizeBytes: null, rows: null };
  const schemas = new Set(
    copy.entries.flatMap(({ object }) => (isShown(object, 'schema') ? [object.name] : [])),
  );
  const regions = regionsOf(copy.database.settings);
  const first: ManifestObject[] = [
    {
      database: null,
      schema: null,
      name: database,
      kind: 'database',
      ...none,
      ...rightsOf(rights, `database ${database}`),
      ...(regions.length === 0 ? {} : { regions: [...regions] }),
    },
  ];
  const usesPublic = copy.entries.some(
    ({ object, type }) => KINDS[type] !== undefined && object?.schema === 'public',
  );
  if (usesPublic && !schemas.has('public')) {
    first.push({ database, schema: null, name: 'public', kind: 'schema', ...none });
  }
  const byHome = Map.groupBy(copy.entries, ({ home }) => home);
  const sizes = new Map(copy.tables.map((table) => [table.entry, table]));
  const others = copy.entries.flatMap((entry): ManifestObject[] => {
    const kind = KINDS[entry.type];
    const name = entry.object?.name;
    if (
      kind === undefined ||
      entry.object === null ||
      name === null ||
      name === undefined ||
      entry.home !== entry.id
    )
      return [];
    const table = sizes.get(entry.id);
    const rows = table?.ranges.reduce((sum, [, count]) => sum + BigInt(count), 0n) ?? 0n;
    return [
      {
        database,
        schema: kind === 'schema' ? null : entry.object.schema,
        name,
        kind,
        sizeBytes: kind === 'table' ? BigInt(table?.bytes ?? 0) : null,
        rows: kind === 'table' ? rows : null,
        ...(table === undefined ? {} : { oid: table.oid }),
        definition: definitionOf(byHome.get(entry.id) ?? [], {
          isExcluded: copy.excluded?.includes(entry.id) === true,
        }),
        ...rightsOf(rights, `${kind === 'table' ? 'relation' : kind} ${entry.object.identity}`),
      },
    ];
  });
  return [...first, ...others];
}

function isShown(
  object: CopyEntry['object'],
  type: string,
): object is NonNullable<CopyEntry['object']> & { name: string } {
  return object !== null && object.type === type && object.name !== null;
}

/** All that makes it, its indexes and constraints too; a foreign key only if it leads to what the backup holds. */
function definitionOf(
  entries: readonly DescribedEntry[],
  { isExcluded }: { readonly isExcluded: boolean },
): string {
  const made = entries.filter(({ type, external }) => type !== 'FK CONSTRAINT' || external.length === 0);
  const table = entries.find(({ id, home }) => id === home)?.object?.identity;
  const exclusion = isExcluded ? [`ALTER TABLE ${table} SET (exclude_data_from_backup = true);`] : [];
  return [...made.map(({ sql }) => sql), ...exclusion].join('\n\n');
}

function rightsOf(
  rights: ReadonlyMap<string, { readonly owner: string; readonly privileges: string }>,
  key: string,
): { owner?: string; privileges?: string } {
  const found = rights.get(key);
  return found === undefined ? {} : found;
}
