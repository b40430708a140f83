/** Statements about who may do what: what Postgres's GRANT has no word for, and the roles that hold it. */
import type { TablePattern, Value } from './ast.ts';

/** Who holds a privilege, as it was written. */
export type RoleReference =
  | { readonly kind: 'role'; readonly name: string }
  | { readonly kind: 'public' | 'current_role' | 'current_user' | 'session_user' };

/** `SELECT`, or `SELECT (a, b)`. Names are in lower case. */
export interface NamedPrivilege {
  readonly name: string;
  /** Empty for the whole object. */
  readonly columns: readonly string[];
}

/** What a privilege is granted on. */
export type PrivilegeObject =
  | { readonly kind: 'databases'; readonly names: readonly string[] }
  | { readonly kind: 'tables'; readonly patterns: readonly TablePattern[] }
  | { readonly kind: 'tables_in_schemas'; readonly names: readonly string[] }
  | { readonly kind: 'external_connections'; readonly names: readonly string[] };

/** A role option: a word alone (`LOGIN`), with a value (`PASSWORD 'x'`), or with names (`IN ROLE a, b`). */
export interface RoleOption {
  /** In lower case, several words joined by blanks: `connection limit`. */
  readonly name: string;
  readonly argument: Value | readonly string[] | undefined;
}

interface Granting {
  readonly grantees: readonly RoleReference[];
  readonly withGrantOption: boolean;
}

interface Revoking {
  /** Takes the right to pass it on, and leaves the privilege. */
  readonly grantOptionFor: boolean;
  readonly grantees: readonly RoleReference[];
  /** Takes it also from those to whom the grantee passed it on. */
  readonly cascade: boolean;
}

export type PrivilegeStatement =
  | ({ readonly kind: 'grant_system'; readonly privileges: readonly string[] } & Granting)
  | ({ readonly kind: 'revoke_system'; readonly privileges: readonly string[] } & Revoking)
  | { readonly kind: 'show_system_grants'; readonly grantees: readonly RoleReference[] }
  | ({
      readonly kind: 'grant_on_object';
      readonly privileges: readonly NamedPrivilege[];
      readonly object: PrivilegeObject;
    } & Granting)
  | ({
      readonly kind: 'revoke_on_object';
      readonly privileges: readonly NamedPrivilege[];
      readonly object: PrivilegeObject;
    } & Revoking)
  | {
      readonly kind: 'alter_default_privileges';
      /** Whose new tables; empty for the current role's. */
      readonly creators: readonly RoleReference[];
      /** Empty for all schemas. */
      readonly schemas: readonly string[];
      readonly privileges: readonly NamedPrivilege[];
      readonly change: ({ readonly kind: 'grant' } & Granting) | ({ readonly kind: 'revoke' } & Revoking);
    }
  | {
      readonly kind: 'show_grants';
      /** `undefined` for every object of the current database. */
      readonly object: PrivilegeObject | undefined;
      /** Empty for everybody. */
      readonly grantees: readonly RoleReference[];
    }
  | { readonly kind: 'show_roles' }
  | { readonly kind: 'show_users' }
  | {
      readonly kind: 'create_role';
      readonly isUser: boolean;
      readonly name: string;
      readonly options: readonly RoleOption[];
    }
  | {
      readonly kind: 'alter_role';
      readonly isUser: boolean;
      readonly role: RoleReference;
      readonly options: readonly RoleOption[];
    };
