/** Who may do what with an external connection: admins everything, its maker everything, others what they were granted. */
import { InputError } from '../../base/index.ts';
import {
  type ConnectionPrivilege,
  type ExternalConnection,
  grantedConnections,
  readConnection,
} from '../../catalog/index.ts';
import { type Asker, holdsPrivilege } from '../privileges/privileges.ts';

/** @throws InputError `object_not_found` */
export async function requireConnection(asker: Asker, name: string): Promise<ExternalConnection> {
  const found = await asker.instance.withSystemClient((client) => readConnection(client, name), asker);
  if (found === undefined) {
    throw new InputError('object_not_found', `external connection with name "${name}" does not exist`, {
      hint: 'SHOW EXTERNAL CONNECTIONS lists those there are',
    });
  }
  return found;
}

/** Whether everything may be done with it. */
export async function ownsConnection(asker: Asker, connection: ExternalConnection): Promise<boolean> {
  return connection.owner === asker.user || (await holdsPrivilege(asker, []));
}

/** @throws InputError `object_not_found`, `insufficient_privilege` */
export async function requireConnectionPrivilege(
  asker: Asker,
  options: { name: string; privilege: ConnectionPrivilege },
): Promise<ExternalConnection> {
  const { name, privilege } = options;
  const connection = await requireConnection(asker, name);
  if (await ownsConnection(asker, connection)) return connection;
  const granted = await asker.instance.withSystemClient(
    (client) => grantedConnections(client, { user: asker.user, anyOf: [privilege] }),
    asker,
  );
  if (granted.has(name)) return connection;
  throw new InputError(
    'insufficient_privilege',
    `user ${asker.user} does not have ${privilege} privilege on external_connection ${name}`,
    { hint: `its owner can GRANT ${privilege} ON EXTERNAL CONNECTION ${name}` },
  );
}
