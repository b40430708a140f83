/** SHOW CREATE TABLE: the statements that make a table, a view or a sequence anew. docs/decisions/0232-show-create-table.md */
import { InputError, required } from '../base/index.ts';
import { quoteName, type Statement } from '../sql/index.ts';
import { mayConnect, requireDatabases, resolveTables } from './privileges/privilege-targets.ts';
import { readTableDefinition, type TableDefinition } from './table-definition.ts';
import { type UseCase, askerOf, columnsOf, rowsResult } from './use-case.ts';
import { notAvailable } from './values.ts';

type ShowCreateTable = Extract<Statement, { kind: 'show_create_table' }>;

const COLUMNS = columnsOf({ table_name: 'text', create_statement: 'text' });

/** Of what is committed. Whoever has any privilege on it may know how it is made. */
export const showCreateTable: UseCase<ShowCreateTable> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, { table }, context) {
    const asker = askerOf(core, context);
    const { database: current } = context.session;
    const { database, tables } = await resolveTables(asker, { current, patterns: [table] });
    await requireDatabases(asker, [database]);
    if (!(await mayConnect(asker, database))) {
      throw new InputError('insufficient_privilege', `permission denied for database ${database}`, {
        hint: `GRANT CONNECT ON DATABASE ${database} lets a role see what is in it`,
      });
    }
    const { schema = 'public', name: asked } = required(tables[0], 'the table that was named');
    const name = required(asked, 'name of a table');
    const definition = await readTableDefinition(asker, { database, schema, name });
    if (definition === null) {
      throw new InputError('table_not_found', `relation "${schema}.${name}" does not exist`);
    }
    if (!definition.maySee) {
      throw new InputError('insufficient_privilege', `permission denied for table ${name}`, {
        hint: 'any privilege on it is enough',
      });
    }
    const typed = [...table.qualifiers, name].map(quoteName).join('.');
    return rowsResult(COLUMNS, [[typed, `${statementsOf(definition).join(';\n')};`]]);
  },
};

/** Without the `;` behind each. @throws InputError `feature_not_supported` for a foreign table */
export function statementsOf(definition: TableDefinition): readonly string[] {
  const { kind, name, query } = definition;
  switch (kind) {
    case 'table':
      // A partition that has its indexes already is given no others.
      return [createTable(definition), ...definition.indexes, ...attach(definition)];
    case 'view':
      return [`CREATE VIEW ${name}${parameters(definition)} AS\n${query}`];
    case 'materialized_view':
      return [
        `CREATE MATERIALIZED VIEW ${name}${parameters(definition)} AS\n${query}`,
        ...definition.indexes,
      ];
    case 'sequence':
      return [`CREATE SEQUENCE ${name} ${definition.sequence}`];
    case 'foreign_table':
      throw notAvailable('SHOW CREATE TABLE of a foreign table', 'ask information_schema.foreign_tables');
  }
}

function createTable(definition: TableDefinition): string {
  const { name, isUnlogged, columns, constraints, parents, partitionKey } = definition;
  const lines = [...columns, ...constraints].map((line) => `\n  ${line}`).join(',');
  const inherits = parents.length === 0 ? '' : `\nINHERITS (${parents.join(', ')})`;
  const partitioned = partitionKey === null ? '' : `\nPARTITION BY ${partitionKey}`;
  const body = lines === '' ? '()' : `(${lines}\n)`;
  return `CREATE ${isUnlogged ? 'UNLOGGED ' : ''}TABLE ${name} ${body}${inherits}${partitioned}${parameters(definition)}`;
}

/** A partition is made as a table of its own, which then becomes one: so nothing of it is said twice, or left out. */
function attach({ name, partitionOf }: TableDefinition): readonly string[] {
  return partitionOf === null
    ? []
    : [`ALTER TABLE ONLY ${partitionOf.parent} ATTACH PARTITION ${name} ${partitionOf.bound}`];
}

/** Storage parameters, ours first. */
function parameters({ isExcluded, options, kind }: TableDefinition): string {
  const own = isExcluded ? ['exclude_data_from_backup = true'] : [];
  const all = [...own, ...options];
  if (all.length === 0) return '';
  return `${kind === 'table' ? '\n' : ' '}WITH (${all.join(', ')})`;
}
