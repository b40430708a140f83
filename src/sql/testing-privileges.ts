/** Arbitrary statements about privileges and roles, for property tests. */
import fc from 'fast-check';
import type { Statement } from './ast.ts';
import type {
  NamedPrivilege,
  PrivilegeObject,
  PrivilegeStatement,
  RoleOption,
  RoleReference,
} from './ast-privileges.ts';
import { POSTGRES_ROLE_OPTIONS, ROLE_PRIVILEGE_OPTIONS } from './role-options.ts';

function record<T>(model: { [Key in keyof T]: fc.Arbitrary<T[Key]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

function kind<Kind extends PrivilegeStatement['kind']>(name: Kind): fc.Arbitrary<Kind> {
  return fc.constant(name);
}

type Arbitraries = Readonly<Record<PrivilegeStatement['kind'], fc.Arbitrary<Statement>>>;

/** A role by its name, or by a word that stands for one. */
export function roleArbitrary(name: fc.Arbitrary<string>): fc.Arbitrary<RoleReference> {
  return fc.oneof(
    fc
      .oneof(name, fc.constantFrom('current_user', 'session_user', 'Public'))
      .filter((written) => written !== 'public')
      .map((written): RoleReference => ({ kind: 'role', name: written })),
    fc
      .constantFrom(
        'public' as const,
        'current_role' as const,
        'current_user' as const,
        'session_user' as const,
      )
      .map((word): RoleReference => ({ kind: word })),
  );
}

export function privilegeArbitraries(parts: {
  name: fc.Arbitrary<string>;
  text: fc.Arbitrary<string>;
}): Arbitraries {
  const { name, text } = parts;
  const several = <T>(item: fc.Arbitrary<T>): fc.Arbitrary<readonly T[]> =>
    fc.array(item, { minLength: 1, maxLength: 3 });
  const role = roleArbitrary(name);
  const roles = several(role);
  const anyRoles = fc.array(role, { maxLength: 2 });
  const system = several(fc.constantFrom('all', 'backup', 'viewjob', 'no such privilege', 'replication'));
  const foreign: fc.Arbitrary<NamedPrivilege> = record({
    name: fc.constantFrom('select', 'update', 'references', 'connect', 'create'),
    columns: fc.array(name, { maxLength: 2 }),
  });
  const ours: fc.Arbitrary<NamedPrivilege> = record({
    name: fc.constantFrom('backup', 'restore'),
    columns: fc.constant([]),
  });
  const privileges = fc
    .tuple(fc.array(foreign, { maxLength: 2 }), ours, fc.array(foreign, { maxLength: 2 }))
    .map(([before, one, after]) => [...before, one, ...after]);
  const tables: fc.Arbitrary<PrivilegeObject> = fc.oneof(
    record({
      kind: fc.constant('tables' as const),
      patterns: several(
        record({
          qualifiers: fc.array(name, { maxLength: 2 }),
          name: fc.option(name, { nil: undefined }),
        }),
      ),
    }),
    record({ kind: fc.constant('tables_in_schemas' as const), names: several(name) }),
  );
  const object = fc.oneof(tables, record({ kind: fc.constant('databases' as const), names: several(name) }));
  const connections = record({ kind: fc.constant('external_connections' as const), names: several(name) });
  const granting = { grantees: roles, withGrantOption: fc.boolean() };
  const revoking = { grantees: roles, grantOptionFor: fc.boolean(), cascade: fc.boolean() };
  const defaults = { creators: anyRoles, schemas: fc.array(name, { maxLength: 2 }), privileges };
  const connectionPrivileges = several(
    record<NamedPrivilege>({
      name: fc.constantFrom('usage', 'drop', 'update', 'all'),
      columns: fc.constant([]),
    }),
  );
  const option: fc.Arbitrary<RoleOption> = fc
    .constantFrom(...Object.entries(POSTGRES_ROLE_OPTIONS))
    .chain(([word, shape]): fc.Arbitrary<RoleOption> => {
      switch (shape) {
        case 'nothing':
          return fc.constant({ name: word, argument: undefined });
        case 'names':
          return several(name).map((argument) => ({ name: word, argument }));
        default:
          return text.map((value) => ({ name: word, argument: { kind: 'string', value } }));
      }
    });
  const ownOption = fc
    .tuple(fc.constantFrom('', 'no'), fc.constantFrom(...ROLE_PRIVILEGE_OPTIONS))
    .map(([no, word]): RoleOption => ({ name: no + word, argument: undefined }));
  // Behind a list of names a word of ours would be read as one more option, as it should.
  const options = fc
    .tuple(ownOption, fc.array(fc.oneof(option, ownOption), { maxLength: 3 }))
    .map(([first, rest]) => [first, ...rest]);
  return {
    grant_system: record({ kind: kind('grant_system'), privileges: system, ...granting }),
    revoke_system: record({ kind: kind('revoke_system'), privileges: system, ...revoking }),
    show_system_grants: record({ kind: kind('show_system_grants'), grantees: anyRoles }),
    grant_on_object: fc.oneof(
      record({ kind: kind('grant_on_object'), privileges, object, ...granting }),
      record({
        kind: kind('grant_on_object'),
        privileges: connectionPrivileges,
        object: connections,
        ...granting,
      }),
    ),
    revoke_on_object: fc.oneof(
      record({ kind: kind('revoke_on_object'), privileges, object, ...revoking }),
      record({
        kind: kind('revoke_on_object'),
        privileges: connectionPrivileges,
        object: connections,
        ...revoking,
      }),
    ),
    alter_default_privileges: record({
      kind: kind('alter_default_privileges'),
      ...defaults,
      change: fc.oneof(
        record({ kind: fc.constant('grant' as const), ...granting }),
        record({ kind: fc.constant('revoke' as const), ...revoking }),
      ),
    }),
    show_grants: record({
      kind: kind('show_grants'),
      object: fc.option(fc.oneof(object, connections), { nil: undefined }),
      grantees: anyRoles,
    }),
    show_roles: record({ kind: kind('show_roles') }),
    show_users: record({ kind: kind('show_users') }),
    create_role: record({ kind: kind('create_role'), isUser: fc.boolean(), name, options }),
    alter_role: record({ kind: kind('alter_role'), isUser: fc.boolean(), role, options }),
  };
}
