/** CREATE TABLE ... WITH (exclude_data_from_backup = true), ALTER TABLE ... SET | RESET (exclude_data_from_backup). docs/decisions/0063-logical-copy.md */
import { SYSTEM_VIRTUAL_CLUSTER_ID } from '../../base/index.ts';
import { isMarked, markSql, unmarkSql } from '../../logical-copy/index.ts';
import { type Statement, withoutExclusion } from '../../sql/index.ts';
import { refuseCreation } from '../privileges/ddl-guard.ts';
import { isSystem } from '../privileges/privileges.ts';
import { sqlBlock, sqlName, sqlText } from '../sql-text.ts';
import { type UseCase, inSession } from '../use-case.ts';

type ExcludeTableData = Extract<Statement, { kind: 'exclude_table_data' }>;

/** Run in the session itself: in its transaction, with the rights of its role. */
export const excludeTableData: UseCase<ExcludeTableData> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  run(core, statement, { session }) {
    const isGuarded = core.settings.isOn(SYSTEM_VIRTUAL_CLUSTER_ID, 'sql.restrict_system_interface.enabled');
    if (isSystem(session.virtualClusterId) && isGuarded) refuseCreation(statement.head);
    return Promise.resolve(
      statement.action === 'with'
        ? inSession(create(statement), 'CREATE TABLE')
        : inSession(alter(statement), 'ALTER TABLE'),
    );
  },
};

const DECLARE = ['target pg_catalog.regclass;', 'owner name;', 'kind "char";', 'other pg_catalog.regclass;'];

function create(statement: ExcludeTableData): string {
  const { table, isGuarded, isExcluded } = statement;
  const execute = `execute ${sqlText(withoutExclusion(statement) ?? '')};`;
  if (!isExcluded) return sqlBlock({ body: [execute] });
  const [name = '', schema] = table.toReversed();
  // One without a schema is made in the first of the path.
  const made =
    schema === undefined
      ? `pg_catalog.to_regclass(pg_catalog.format('%I.%I', pg_catalog.current_schema(), ${sqlText(name)}))`
      : `pg_catalog.to_regclass(${sqlText(nameOf(table))})`;
  const unlessThere = isGuarded ? [`if ${made} is not null then ${execute} return; end if;`] : [];
  return sqlBlock({ declare: DECLARE, body: [...unlessThere, execute, `target := ${made};`, ...mark()] });
}

function alter(statement: ExcludeTableData): string {
  const { table, isGuarded, isExcluded } = statement;
  const rest = withoutExclusion(statement);
  const name = sqlText(nameOf(table));
  return sqlBlock({
    declare: DECLARE,
    body: [
      ...(rest === undefined ? [] : [`execute ${sqlText(rest)};`]),
      `target := pg_catalog.to_regclass(${name});`,
      ...(isGuarded
        ? [
            'if target is null then',
            ...(rest === undefined
              ? [
                  `raise notice using message = ${sqlText(`relation "${table.join('.')}" does not exist, skipping`)};`,
                ]
              : []),
            'return; end if;',
          ]
        : [`target := ${name}::pg_catalog.regclass;`]),
      ...(isExcluded ? mark() : unmark()),
    ],
  });
}

/** What only the owner of an ordinary or partitioned table may do. */
function requireOwn(): readonly string[] {
  return [
    `select r.rolname, c.relkind into strict owner, kind from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner where c.oid = target;`,
    `if kind not in ('r', 'p') then raise exception using errcode = '42809', message = pg_catalog.format('%s is no table', target); end if;`,
    `if not pg_catalog.pg_has_role(current_user, owner, 'USAGE') then raise exception using errcode = '42501',`,
    `message = pg_catalog.format('must be owner of table %s', target); end if;`,
  ];
}

function mark(): readonly string[] {
  return [
    ...requireOwn(),
    `select c.conrelid into other from pg_catalog.pg_constraint c where c.contype = 'f' and c.confrelid = target and c.conrelid <> target limit 1;`,
    `if other is not null then raise exception using errcode = '55000',`,
    `message = pg_catalog.format('data of table %s cannot be kept out of backups: table %s has a foreign key to it', target, other),`,
    `hint = 'its rows would refer to rows that no backup has; drop the foreign key first'; end if;`,
    `execute pg_catalog.format(${sqlText(markSql({ table: '%s', owner: '%I' }))}, target, owner);`,
  ];
}

function unmark(): readonly string[] {
  return [
    ...requireOwn(),
    `if ${isMarked('target')} then execute pg_catalog.format(${sqlText(unmarkSql({ table: '%s', owner: '%I' }))}, target, owner); end if;`,
  ];
}

function nameOf(table: readonly string[]): string {
  return table.map(sqlName).join('.');
}
