/**
 * Which types mean the same in binary form in another database. OIDs do not: those that `reg*` types are, and those of element and column types
 * that arrays and rows carry.
 */
import { type CopySession, column, numberColumn } from './session.ts';

const FIRST_NORMAL_OID = 16384;

interface TypeFacts {
  readonly oid: number;
  /** `b` base, `c` row, `d` domain, `e` enumeration, `p` pseudo, `r` range, `m` multirange. */
  readonly kind: string;
  readonly isArray: boolean;
  readonly element: number;
  readonly base: number;
  readonly columns: readonly number[];
  readonly rangeOver: number;
  /** Its binary form is an OID of an object. */
  readonly isReference: boolean;
  readonly hasBinaryForm: boolean;
}

export async function readBinaryTypes(session: CopySession): Promise<(type: number) => boolean> {
  const rows = await session.query(
    `select t.oid::text as oid, t.typtype::text as kind, (t.typelem <> 0
          and t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc)::text as is_array, t.typelem::text as element,
        t.typbasetype::text as base, coalesce(r.rngsubtype, m.rngsubtype, 0)::text as over,
        (t.typname like 'reg%' and t.typnamespace = 'pg_catalog'::regnamespace)::text as is_reference,
        (t.typsend <> 0 and t.typreceive <> 0)::text as has_binary,
        coalesce((select jsonb_agg(a.atttypid::int8) from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0
          and not a.attisdropped and t.typtype = 'c'), '[]')::text as columns
      from pg_type t left join pg_range r on r.rngtypid = t.oid left join pg_range m on m.rngmultitypid = t.oid`,
  );
  const types = new Map(
    rows.map((row): [number, TypeFacts] => {
      const oid = numberColumn(row, 'oid');
      const facts = {
        oid,
        kind: column(row, 'kind'),
        isArray: column(row, 'is_array') === 'true',
        element: numberColumn(row, 'element'),
        base: numberColumn(row, 'base'),
        columns: JSON.parse(column(row, 'columns')) as number[], // Made by the query.
        rangeOver: numberColumn(row, 'over'),
        isReference: column(row, 'is_reference') === 'true',
        hasBinaryForm: column(row, 'has_binary') === 'true',
      };
      return [oid, facts];
    }),
  );
  const isBinary = (oid: number): boolean => {
    const facts = types.get(oid);
    return facts !== undefined && facts.hasBinaryForm && !facts.isReference && isPortable(facts, isBinary);
  };
  return isBinary;
}

function isPortable(type: TypeFacts, isBinary: (oid: number) => boolean): boolean {
  const isFixed = (oid: number) => oid < FIRST_NORMAL_OID && isBinary(oid);
  if (type.isArray) return isFixed(type.element);
  if (type.kind === 'c') return type.columns.every(isFixed);
  if (type.kind === 'd') return isBinary(type.base);
  if (type.rangeOver !== 0) return isBinary(type.rangeOver);
  return true;
}
