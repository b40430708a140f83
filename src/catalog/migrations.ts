/**
 * The shape of our tables, as a list of migrations that only ever grows. Each is applied once per database, in order, in a transaction
 * of its own, and recorded in `public.migrations`; all may be asked for any number of times.
 */
import type { Timestamp } from '../base/index.ts';
import { AppError, assert, formatTimestamp } from '../base/index.ts';
import { type SqlClient, inTransaction, textOf } from './database.ts';

interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: readonly string[];
}

export type MigrationSet = 'virtual_cluster' | 'control_plane';

/** System privileges that Postgres has no word for: roles, made by the bootstrap superuser, whose members hold them. */
export const SYSTEM_PRIVILEGE_ROLES = {
  BACKUP: 'atoll_backup',
  RESTORE: 'atoll_restore',
  MANAGEVIRTUALCLUSTER: 'atoll_managevirtualcluster',
  EXTERNALIOIMPLICITACCESS: 'atoll_externalioimplicitaccess',
  VIEWJOB: 'atoll_viewjob',
  CONTROLJOB: 'atoll_controljob',
  VIEWSYSTEMDATA: 'atoll_viewsystemdata',
  VIEWCLUSTERSETTING: 'atoll_viewclustersetting',
  MODIFYCLUSTERSETTING: 'atoll_modifyclustersetting',
  MODIFYSQLCLUSTERSETTING: 'atoll_modifysqlclustersetting',
  EXTERNALCONNECTION: 'atoll_externalconnection',
  REPLICATION: 'atoll_replication',
  REPLICATIONSOURCE: 'atoll_replicationsource',
  REPLICATIONDEST: 'atoll_replicationdest',
} as const;

/**
 * Roles as which people of the system VC are served in another virtual cluster: with everything an admin may do there, with nothing
 * but Atoll's own tables to read, and with nothing but its log and its files to follow. Nobody can log in as them by name, or become one of
 * them.
 */
export const AUTHORITY_ROLES = {
  admin: 'atoll_operator',
  observer: 'atoll_observer',
  replicator: 'atoll_replicator',
} as const;

export type SystemPrivilege = keyof typeof SYSTEM_PRIVILEGE_ROLES;

/** What the observer holds. */
export const OBSERVER_PRIVILEGES = ['VIEWJOB', 'VIEWCLUSTERSETTING', 'VIEWSYSTEMDATA'] as const;

const JOBS_TABLE = `create table public.jobs (
  job_id int8 primary key,
  job_type text not null,
  description text not null,
  user_name text not null,
  status text not null,
  running_status text,
  created timestamptz not null,
  started timestamptz,
  finished timestamptz,
  modified timestamptz not null,
  fraction_completed float8 not null default 0,
  error text,
  coordinator_id int8 not null,
  payload jsonb not null,
  progress jsonb not null default '{}',
  attempt int4 not null default 0,
  incarnation uuid not null,
  target_virtual_cluster_id int8,
  revert_outcome text,
  retry_at timestamptz
)`;

/** Puts a role of a tenant's that has the name aside, under the name and its OID. */
function moveAside(role: string): string {
  return `execute pg_catalog.format('alter role ${role} rename to %I', '${role}_' || '${role}'::pg_catalog.regrole::pg_catalog.oid);`;
}

/**
 * Makes the role unless it is there, and lets admins pass it on without holding what it stands for. Ours is known by that grant, which only
 * the bootstrap superuser makes.
 */
function createPrivilegeRole(role: string): string {
  return `do $$ begin
    if exists (select from pg_catalog.pg_roles where rolname = '${role}') and not exists (
      select from pg_catalog.pg_auth_members m join pg_catalog.pg_roles r on r.oid = m.roleid
        where r.rolname = '${role}' and m.member = 'admin'::pg_catalog.regrole and m.grantor = 10) then
      ${moveAside(role)}
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = '${role}') then
      create role ${role} nologin;
    end if;
    grant ${role} to admin with admin option, inherit false, set false;
  end $$`;
}

/** Makes the role. One that has the name was made by a tenant, who may act as it. */
function createAuthorityRole(role: string): string {
  return `do $$ begin
    if exists (select from pg_catalog.pg_roles where rolname = '${role}') then
      ${moveAside(role)}
    end if;
    create role ${role} login;
  end $$`;
}

const MIGRATIONS: Readonly<Record<MigrationSet, readonly Migration[]>> = {
  virtual_cluster: [
    {
      version: 1,
      name: 'settings, jobs and system privileges',
      sql: [
        'create table public.settings (name text primary key, value text not null, modified timestamptz not null)',
        JOBS_TABLE,
        'create index jobs_unfinished on public.jobs (status) where finished is null',
        'create index jobs_finished on public.jobs (finished)',
        ...Object.values(SYSTEM_PRIVILEGE_ROLES).map(createPrivilegeRole),
      ],
    },
    {
      version: 2,
      name: 'schedules and external connections',
      sql: [
        `create table public.scheduled_jobs (
          schedule_id int8 primary key,
          label text not null,
          owner_name text not null,
          created timestamptz not null,
          recurrence text not null,
          next_run timestamptz,
          message text,
          on_previous_running text not null,
          on_execution_failure text not null,
          backup_type text not null,
          statement text not null,
          partner_id int8,
          waits_for_full_after int8,
          updates_last_backup_metric boolean not null,
          ignore_existing_backups boolean not null,
          first_run timestamptz,
          incarnation uuid not null
        )`,
        'create index scheduled_jobs_due on public.scheduled_jobs (next_run) where next_run is not null',
        `alter table public.jobs add column schedule_id int8, add column scheduled_for timestamptz,
          add column schedule_settled boolean not null default false, add column pause_reason text`,
        'create index jobs_by_schedule on public.jobs (schedule_id, scheduled_for) where schedule_id is not null',
        `create index jobs_unsettled on public.jobs (job_id)
          where schedule_id is not null and finished is not null and not schedule_settled`,
        `create table public.external_connections (
          connection_name text primary key,
          connection_type text not null,
          uri text not null,
          owner_name text not null,
          created timestamptz not null,
          updated timestamptz not null
        )`,
      ],
    },
    {
      version: 3,
      name: 'more system privileges, privileges on external connections, authority of the system virtual cluster',
      sql: [
        ...Object.values(SYSTEM_PRIVILEGE_ROLES).map(createPrivilegeRole),
        `create table public.external_connection_privileges (
          connection_name text not null references public.external_connections on update cascade on delete cascade,
          grantee oid not null,
          privilege text not null check (privilege in ('USAGE', 'DROP', 'UPDATE')),
          is_grantable boolean not null,
          primary key (connection_name, grantee, privilege)
        )`,
        createAuthorityRole(AUTHORITY_ROLES.admin),
        createAuthorityRole(AUTHORITY_ROLES.observer),
        `grant admin to ${AUTHORITY_ROLES.admin}`,
        `grant ${OBSERVER_PRIVILEGES.map((name) => SYSTEM_PRIVILEGE_ROLES[name]).join(', ')} to ${AUTHORITY_ROLES.observer}`,
        `grant connect on database system to ${AUTHORITY_ROLES.observer}`,
        // Not external_connections and scheduled_jobs: their URIs hold secrets.
        `grant select on public.settings, public.jobs, public.migrations to ${AUTHORITY_ROLES.observer}`,
      ],
    },
    {
      version: 4,
      name: 'owners of schedules',
      sql: [
        // A privilege on it is what keeps Postgres from dropping a role that owns schedules. Nobody but the superuser gets near it.
        'create table public.schedule_owners ()',
        `do $$ declare owner text; begin
          for owner in select distinct owner_name from public.scheduled_jobs s
            join pg_catalog.pg_roles r on r.rolname = s.owner_name loop
            execute pg_catalog.format('grant references on public.schedule_owners to %I', owner);
          end loop;
        end $$`,
      ],
    },
    {
      version: 5,
      name: 'owners of external connections',
      sql: [
        // As schedule_owners: a role of the same name, made later, must not find the secrets of the one before.
        'create table public.connection_owners ()',
        `do $$ declare owner text; begin
          for owner in select distinct owner_name from public.external_connections c
            join pg_catalog.pg_roles r on r.rolname = c.owner_name loop
            execute pg_catalog.format('grant references on public.connection_owners to %I', owner);
          end loop;
        end $$`,
      ],
    },
    {
      version: 6,
      name: 'databases of schedules',
      sql: ["alter table public.scheduled_jobs add column database_name text not null default 'defaultdb'"],
    },
    {
      version: 7,
      name: 'whom consumers of replication streams are served as',
      sql: [
        createAuthorityRole(AUTHORITY_ROLES.replicator),
        `alter role ${AUTHORITY_ROLES.replicator} replication`,
      ],
    },
    {
      version: 8,
      name: 'observers read no secrets of jobs and settings',
      sql: [
        // Payloads name storage with its credentials, and a licence is a setting: system.jobs and system.settings show what may be seen.
        `revoke select on public.settings, public.jobs from ${AUTHORITY_ROLES.observer}`,
        `grant select (name, modified) on public.settings to ${AUTHORITY_ROLES.observer}`,
        `grant select (job_id, job_type, description, user_name, status, running_status, created, started, finished, modified,
          fraction_completed, error, coordinator_id, attempt, schedule_id, scheduled_for) on public.jobs to ${AUTHORITY_ROLES.observer}`,
      ],
    },
    {
      version: 9,
      name: 'zones',
      sql: [
        // Of range default: both numbers 0. Of a database: the second is 0.
        `create table public.zones (
          database_oid oid not null,
          relation_oid oid not null,
          variables jsonb not null,
          primary key (database_oid, relation_oid)
        )`,
        `grant select on public.zones to ${AUTHORITY_ROLES.observer}`,
      ],
    },
  ],
  control_plane: [
    {
      version: 1,
      name: 'virtual clusters',
      sql: [
        `create table public.virtual_clusters (
          id int8 primary key,
          name text not null,
          state text not null,
          service_mode text not null,
          created timestamptz not null,
          dropped timestamptz,
          remove_after timestamptz
        )`,
        `create unique index virtual_clusters_name on public.virtual_clusters (name) where state in ('adding', 'ready')`,
        `create table public.virtual_cluster_capabilities (
          virtual_cluster_id int8 not null references public.virtual_clusters on delete cascade,
          name text not null,
          primary key (virtual_cluster_id, name)
        )`,
        `create table public.virtual_cluster_settings (
          virtual_cluster_id int8 not null references public.virtual_clusters on delete cascade,
          name text not null,
          value text not null,
          primary key (virtual_cluster_id, name)
        )`,
        'create table public.control_plane (name text primary key, value text not null)',
        'create index jobs_by_target on public.jobs (target_virtual_cluster_id) where target_virtual_cluster_id is not null',
      ],
    },
    {
      version: 2,
      name: 'checks of timelines',
      sql: [
        `create table public.timeline_checks (
          job_id int8 primary key,
          virtual_cluster_id int8 not null references public.virtual_clusters on delete cascade,
          started timestamptz not null,
          finished timestamptz not null,
          as_of timestamptz not null,
          position text not null,
          state text not null check (state in ('succeeded', 'failed')),
          counts jsonb not null,
          findings jsonb not null
        )`,
        'create index timeline_checks_by_virtual_cluster on public.timeline_checks (virtual_cluster_id, started)',
      ],
    },
    {
      version: 3,
      name: 'what of timelines was read again, and is damaged',
      sql: [
        `create table public.timeline_verify (
          virtual_cluster_id int8 primary key references public.virtual_clusters on delete cascade,
          round_started timestamptz not null,
          last_pass timestamptz not null,
          after text,
          is_round_over bool not null,
          read_bytes int8 not null,
          all_bytes int8 not null,
          damage jsonb not null
        )`,
      ],
    },
    {
      version: 4,
      name: 'replication streams',
      sql: [
        // Their URIs hold secrets: nobody but the superuser reads them.
        `create table public.replication_streams (
          virtual_cluster_id int8 primary key references public.virtual_clusters on delete cascade,
          source_name text not null,
          source_uri text not null,
          job_id int8,
          state jsonb not null,
          terms jsonb not null,
          divergence jsonb,
          retained_time timestamptz,
          replicated_time timestamptz
        )`,
      ],
    },
    {
      version: 5,
      name: 'suspension of idle virtual clusters',
      sql: [
        `create table public.virtual_cluster_suspension (
          virtual_cluster_id int8 primary key references public.virtual_clusters on delete cascade,
          after_us int8 not null check (after_us > 0),
          suspended timestamptz,
          wake_at timestamptz
        )`,
      ],
    },
    {
      version: 6,
      name: 'reader virtual clusters, and options of replication streams',
      sql: [
        // One without a directory of its own: whoever comes to it reads the follower of that number.
        'alter table public.virtual_clusters add column reader_of int8 references public.virtual_clusters on delete cascade',
        `alter table public.replication_streams add column options jsonb not null default '{}'`,
      ],
    },
  ],
};

/**
 * Brings one database up to date. Safe to run again after a crash anywhere.
 * @throws AppError `format_unsupported` when a newer program has been here
 */
export async function migrate(
  client: SqlClient,
  options: { set: MigrationSet; now: Timestamp },
): Promise<void> {
  const { set, now } = options;
  await client.query(
    `create table if not exists public.migrations (
      migration_set text not null, version int4 not null, name text not null, completed timestamptz not null,
      primary key (migration_set, version))`,
  );
  const rows = await client.query('select version from public.migrations where migration_set = $1', [set]);
  const done = new Set(rows.map((row) => Number(textOf(row, 'version'))));
  const list = MIGRATIONS[set];
  const newest = Math.max(0, ...done);
  if (newest > list.length) {
    throw new AppError(
      'format_unsupported',
      `tables of set ${set} are at version ${newest}, this program knows up to ${list.length}`,
      { hint: 'start the release that wrote them, or a later one' },
    );
  }
  for (const [index, migration] of list.entries()) {
    assert(migration.version === index + 1, 'migrations are numbered without a gap');
    if (done.has(migration.version)) continue;
    await inTransaction(client, async () => {
      for (const statement of migration.sql) await client.query(statement);
      await client.query('insert into public.migrations values ($1, $2, $3, $4::timestamptz)', [
        set,
        String(migration.version),
        migration.name,
        formatTimestamp(now),
      ]);
    });
  }
}
