/**
 * `system.jobs` and the other tables of ours that queries read by name, for admins and holders of VIEWSYSTEMDATA. Names and columns are the
 * original's as far as there is something to put in them (docs/decisions/0051); what holds a secret is redacted.
 */
import type { Timestamp } from '../base/index.ts';
import {
  AUTHORITY_ROLES,
  JOBS_LISTED_MAX,
  type JobRecord,
  type Row,
  type SqlClient,
  SYSTEM_PRIVILEGE_ROLES,
  errorOf,
  findSetting,
  settingTypeLetter,
} from '../catalog/index.ts';
import { REDACTED, type Statement, type SystemTable, redactUri } from '../sql/index.ts';
import type { Cell, Column, ColumnType, ExecuteContext } from './contract.ts';
import type { Core } from './core.ts';
import { requirePrivilege } from './privileges/privileges.ts';
import { scheduleStoreOf } from './schedules/schedule-access.ts';
import { isRedacted, whatIsHidden } from './settings/show-cluster-settings.ts';
import { jobsSince } from './jobs/show-jobs.ts';
import { ON_FAILURE, commandOf, schedulesById } from './schedules/show-schedules.ts';
import { type UseCase, askerOf, columnsOf, rowsResult, timestampCell } from './use-case.ts';

type ShowSystemTable = Extract<Statement, { kind: 'show_system_table' }>;

interface Table {
  readonly columns: readonly Column[];
  readonly read: (core: Core, context: ExecuteContext) => Promise<readonly (readonly Cell[])[]>;
}

export const showSystemTable: UseCase<ShowSystemTable> = {
  columns: ({ table }) => TABLES[table].columns,
  refusedInTransaction: undefined,
  async run(core, { table }, context) {
    await requirePrivilege(askerOf(core, context), {
      anyOf: ['VIEWSYSTEMDATA'],
      refusal: `only users with the admin role or the VIEWSYSTEMDATA system privilege are allowed to read system.${table}`,
      hint: 'an admin can GRANT SYSTEM VIEWSYSTEMDATA',
    });
    const { columns, read } = TABLES[table];
    const rows = await read(core, context);
    return rowsResult(columns, rows, `SELECT ${rows.length}`);
  },
};

const TABLES: Readonly<Record<SystemTable, Table>> = {
  jobs: {
    columns: columnsOf({
      id: 'int8',
      status: 'text',
      created: 'timestamptz',
      created_by_type: 'text',
      created_by_id: 'int8',
      claim_instance_id: 'int8',
      num_runs: 'int8',
      last_run: 'timestamptz',
      job_type: 'text',
      owner: 'text',
      description: 'text',
      error_msg: 'text',
      finished: 'timestamptz',
      modified: 'timestamptz',
      running_status: 'text',
      fraction_completed: 'float8',
    }),
    read: readJobs,
  },
  scheduled_jobs: {
    columns: columnsOf({
      schedule_id: 'int8',
      schedule_name: 'text',
      created: 'timestamptz',
      owner: 'text',
      next_run: 'timestamptz',
      schedule_state: 'text',
      schedule_expr: 'text',
      schedule_details: 'jsonb',
      executor_type: 'text',
      execution_args: 'jsonb',
    }),
    read: readSchedules,
  },
  settings: {
    columns: columnsOf({ name: 'text', value: 'text', lastUpdated: 'timestamptz', valueType: 'text' }),
    read: readSettings,
  },
  external_connections: queried(
    {
      connection_name: 'text',
      created: 'timestamptz',
      updated: 'timestamptz',
      connection_type: 'text',
      connection_details: 'text',
      owner: 'text',
    },
    `select connection_name, created::text, updated::text, connection_type, uri as connection_details, owner_name as owner
      from public.external_connections order by connection_name`,
    (row) => ({ ...row, connection_details: redactUri(row['connection_details'] ?? '') }),
  ),
  users: queried(
    { username: 'text', hashedPassword: 'text', isRole: 'bool', user_id: 'int8' },
    `select r.rolname as username, case when r.rolpassword is not null then '${REDACTED}' end as "hashedPassword",
        case when r.rolcanlogin then 'f' else 't' end as "isRole", r.oid::text as user_id
      from pg_catalog.pg_authid r where ${isShown('r')} order by r.rolname`,
  ),
  role_members: queried(
    { role: 'text', member: 'text', isAdmin: 'bool', role_id: 'int8', member_id: 'int8' },
    `select r.rolname as role, m.rolname as member, case when pg_catalog.bool_or(a.admin_option) then 't' else 'f' end as "isAdmin",
        r.oid::text as role_id, m.oid::text as member_id
      from pg_catalog.pg_auth_members a join pg_catalog.pg_roles r on r.oid = a.roleid join pg_catalog.pg_roles m on m.oid = a.member
      where a.inherit_option and ${isShown('r')} and ${isShown('m')} group by 1, 2, 4, 5 order by 1, 2`,
  ),
  role_options: queried(
    { username: 'text', option: 'text', value: 'text', user_id: 'int8' },
    `select r.rolname as username, o.option, o.value, r.oid::text as user_id
      from pg_catalog.pg_roles r cross join lateral (
        select 'CREATEDB' as option, null as value where r.rolcreatedb
        union all select 'CREATEROLE', null where r.rolcreaterole
        union all select 'NOLOGIN', null where not r.rolcanlogin
        union all select 'REPLICATION', null where r.rolreplication
        union all select 'VALID UNTIL', r.rolvaliduntil::text where r.rolvaliduntil is not null) o
      where ${isShown('r')} order by 1, 2`,
  ),
  privileges: queried(
    { username: 'text', path: 'text', privileges: 'text', grant_options: 'text', user_id: 'int8' },
    `select coalesce(r.rolname, 'public') as username, g.path,
        pg_catalog.array_agg(distinct g.privilege order by g.privilege)::text as privileges,
        coalesce(pg_catalog.array_agg(distinct g.privilege order by g.privilege) filter (where g.is_grantable), '{}')::text as grant_options,
        g.grantee::text as user_id
      from (select '/global/' as path, a.member as grantee, pg_catalog.upper(pg_catalog.substr(m.rolname, 7)) as privilege,
            a.admin_option as is_grantable
          from pg_catalog.pg_auth_members a join pg_catalog.pg_roles m on m.oid = a.roleid
          where a.grantor <> 10 and m.rolname in (${names(Object.values(SYSTEM_PRIVILEGE_ROLES))})
        union all select '/externalconn/' || connection_name, grantee, privilege, is_grantable
          from public.external_connection_privileges) g
      left join pg_catalog.pg_roles r on r.oid = g.grantee
      where g.grantee = 0 or ${isShown('r')} group by 1, 2, 5 order by 1, 2`,
  ),
};

/** A table that one query of ours gives, in which cells stand under the names of the columns. */
function queried(
  types: Readonly<Record<string, ColumnType>>,
  sql: string,
  shownAs: (row: Row) => Row = (row) => row,
): Table {
  const columns = columnsOf(types);
  return {
    columns,
    read: async (core, context) => {
      const asker = askerOf(core, context);
      const rows = await asker.instance.withSystemClient((client) => client.query(sql), asker);
      return rows.map((row) => {
        const shown = shownAs(row);
        return columns.map(({ name }) => shown[name] ?? null);
      });
    },
  };
}

/** Roles of Postgres's and of ours are none of the tenant's. */
function isShown(role: string): string {
  const hidden = [
    'atoll_reader',
    ...Object.values(SYSTEM_PRIVILEGE_ROLES),
    ...Object.values(AUTHORITY_ROLES),
  ];
  return `${role}.oid <> 10 and ${role}.rolname not like 'pg\\_%' and ${role}.rolname not in (${names(hidden)})`;
}

/** Names of ours, which are plain words. */
function names(list: readonly string[]): string {
  return list.map((name) => `'${name}'`).join(', ');
}

/** As far back as records are kept. */
async function readJobs(core: Core, context: ExecuteContext): Promise<readonly (readonly Cell[])[]> {
  const jobs = await jobsSince(core, context, { finishedSince: 0n as Timestamp });
  if (jobs.length >= JOBS_LISTED_MAX) {
    context.onNotice({
      severity: 'WARNING',
      sqlstate: '01000',
      message: `system.jobs shows the newest ${JOBS_LISTED_MAX} jobs only`,
    });
  }
  return jobs.map(jobCells);
}

function jobCells(job: JobRecord): readonly Cell[] {
  return [
    String(job.id),
    job.state.kind,
    timestampCell(job.created),
    job.schedule === undefined ? null : 'schedule',
    job.schedule === undefined ? null : String(job.schedule.scheduleId),
    String(job.coordinatorId),
    String(job.attempt),
    timestampCell(job.started),
    job.type,
    job.user,
    job.description,
    errorOf(job.state) ?? null,
    timestampCell(job.finished),
    timestampCell(job.modified),
    job.runningStatus,
    String(job.fractionCompleted),
  ];
}

async function readSchedules(core: Core, context: ExecuteContext): Promise<readonly (readonly Cell[])[]> {
  const { session, signal } = context;
  const all = await scheduleStoreOf(core, session.virtualClusterId).list({ signal });
  const byId = schedulesById(all);
  return all.map(({ schedule }) => [
    String(schedule.id),
    schedule.label,
    timestampCell(schedule.created),
    schedule.owner,
    timestampCell(schedule.nextRun),
    schedule.message,
    schedule.recurrence,
    JSON.stringify({
      wait: schedule.onPreviousRunning.toUpperCase(),
      on_error: ON_FAILURE[schedule.onExecutionFailure],
    }),
    'scheduled-backup-executor',
    commandOf(schedule, byId),
  ]);
}

async function readSettings(core: Core, context: ExecuteContext): Promise<readonly (readonly Cell[])[]> {
  const asker = askerOf(core, context);
  const hidden = await whatIsHidden(core, context);
  const rows = await asker.instance.withSystemClient(
    (client: SqlClient) =>
      client.query('select name, value, modified::text as modified from public.settings order by name'),
    asker,
  );
  return rows.map((row) => {
    const setting = findSetting(row['name'] ?? '');
    const value = row['value'] ?? '';
    // What an earlier release has set and this one does not know may be a secret.
    const isHidden = setting === undefined || isRedacted(setting, { value, ...hidden });
    return [
      row['name'] ?? null,
      isHidden ? REDACTED : value,
      row['modified'] ?? null,
      setting === undefined ? null : settingTypeLetter(setting.type),
    ];
  });
}
