/**
 * Which tables' rows are kept out of backups. The mark is a column privilege that opens nothing: REFERENCES on the system column `cmax`, granted
 * to the table's owner. Postgres keeps it with the table, in every image, and forgets it with the table. docs/decisions/0063-logical-copy.md
 */

/** `CommandIdAttributeNumber` of the deleting command. */
const CARRIER = { name: 'cmax', number: -5 } as const;

/** Whether a relation bears the mark itself. @param oid an expression of SQL */
export function isMarked(oid: string): string {
  return `exists (select from pg_catalog.pg_attribute marked, lateral pg_catalog.aclexplode(marked.attacl) mark
    where marked.attrelid = ${oid} and marked.attnum = ${CARRIER.number} and mark.privilege_type = 'REFERENCES')`;
}

/** Whether it, or one that it is a partition of, bears the mark. @param oid an expression of SQL */
export function isExcluded(oid: string): string {
  return `exists (with recursive up (oid) as (select ${oid}
      union select i.inhparent from up join pg_catalog.pg_inherits i on i.inhrelid = up.oid
        join pg_catalog.pg_class k on k.oid = i.inhrelid and k.relispartition)
    select from up where ${isMarked('up.oid')})`;
}

/** Marks a table, as a role that owns it. @param table and @param owner as SQL reads them */
export function markSql({ table, owner }: { table: string; owner: string }): string {
  return `grant references (${CARRIER.name}) on table ${table} to ${owner}`;
}

export function unmarkSql({ table, owner }: { table: string; owner: string }): string {
  return `revoke references (${CARRIER.name}) on table ${table} from ${owner}`;
}
