/** Options of CREATE ROLE and ALTER ROLE: Postgres's, which are passed on, and ours, which stand for system privileges. */

/** Ours, each also with NO in front. */
export const ROLE_PRIVILEGE_OPTIONS = [
  'controljob',
  'viewjob',
  'modifyclustersetting',
  'viewclustersetting',
] as const;

export type RolePrivilegeOption = (typeof ROLE_PRIVILEGE_OPTIONS)[number];

/** The privilege behind an option's word, and whether it is given or taken; undefined for an option of Postgres's. */
export function rolePrivilegeOf(
  option: string,
): { readonly privilege: RolePrivilegeOption; readonly isGranted: boolean } | undefined {
  for (const privilege of ROLE_PRIVILEGE_OPTIONS) {
    if (option === privilege) return { privilege, isGranted: true };
    if (option === `no${privilege}`) return { privilege, isGranted: false };
  }
  return undefined;
}

/** What follows the words of an option of Postgres's. */
export type RoleOptionShape = 'nothing' | 'value' | 'secret' | 'names';

export const POSTGRES_ROLE_OPTIONS: Readonly<Record<string, RoleOptionShape>> = {
  superuser: 'nothing',
  nosuperuser: 'nothing',
  createdb: 'nothing',
  nocreatedb: 'nothing',
  createrole: 'nothing',
  nocreaterole: 'nothing',
  inherit: 'nothing',
  noinherit: 'nothing',
  login: 'nothing',
  nologin: 'nothing',
  replication: 'nothing',
  noreplication: 'nothing',
  bypassrls: 'nothing',
  nobypassrls: 'nothing',
  'connection limit': 'value',
  'encrypted password': 'secret',
  password: 'secret',
  'valid until': 'value',
  'in role': 'names',
  'in group': 'names',
  role: 'names',
  user: 'names',
  admin: 'names',
};
