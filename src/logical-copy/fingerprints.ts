/** When two types of one name mean the same. */
import { createHash } from 'node:crypto';
import { type CopySession, column, numberColumn } from './session.ts';

/**
 * Of all types that tenants made, by OID: labels of an enumeration in their order; columns of a row; what a domain or range is over, and the
 * checks of a domain.
 */
export async function readFingerprints(session: CopySession): Promise<ReadonlyMap<number, string>> {
  const rows = await session.query(
    `select t.oid::text as oid, jsonb_build_array(t.typtype, t.typnotnull, t.typdefault, format_type(nullif(t.typbasetype, 0), t.typtypmod),
        (select jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
        (select jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) order by a.attnum)
          from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped),
        (select format_type(r.rngsubtype, null) from pg_range r where r.rngtypid = t.oid),
        (select jsonb_agg(pg_get_constraintdef(c.oid) order by c.conname) from pg_constraint c where c.contypid = t.oid))::text as meaning
      from pg_type t where t.oid >= 16384 and t.typtype in ('e', 'c', 'd', 'r')`,
  );
  return new Map(
    rows.map((row) => [
      numberColumn(row, 'oid'),
      createHash('sha256').update(column(row, 'meaning')).digest('hex').slice(0, 32),
    ]),
  );
}
