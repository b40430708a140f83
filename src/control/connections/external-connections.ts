/** CREATE, ALTER, DROP, SHOW and SHOW CREATE EXTERNAL CONNECTION. Their URIs hold secrets: only SHOW CREATE tells them, to who made them. */
import { InputError } from '../../base/index.ts';
import { withUserfileOwner } from '../../blob/index.ts';
import {
  type ConnectionType,
  type ExternalConnection,
  deleteConnection,
  grantedConnections,
  insertConnection,
  readConnection,
  readConnections,
  updateConnection,
} from '../../catalog/index.ts';
import { type Statement, type Value, printStatement, redactUri } from '../../sql/index.ts';
import type { Place } from '../../timeline/index.ts';
import { requireKmsAccess } from '../backup/backup-keys.ts';
import { probeKms, probeStorage } from './check-connection.ts';
import { requireLocationAccess } from '../backup/collection.ts';
import { requireConnection, requireConnectionPrivilege } from './connection-access.ts';
import { parseConnectionUri } from './connection-uri.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { holdsPrivilege, requirePrivilege } from '../privileges/privileges.ts';
import { type UseCase, askerOf, columnsOf, done, rowsResult } from '../use-case.ts';
import { textValue } from '../values.ts';

type Create = Extract<Statement, { kind: 'create_external_connection' }>;
type Alter = Extract<Statement, { kind: 'alter_external_connection' }>;
type Drop = Extract<Statement, { kind: 'drop_external_connection' }>;
type Show = Extract<Statement, { kind: 'show_external_connections' }>;
type ShowCreate = Extract<Statement, { kind: 'show_create_external_connections' }>;

const LIST = columnsOf({ connection_name: 'text', connection_uri: 'text', connection_type: 'text' });
const CREATE = columnsOf({ connection_name: 'text', create_statement: 'text' });
const NAME_LENGTH_MAX = 63;
const PROBE_MS_MAX = 15_000;

export const createExternalConnection: UseCase<Create> = {
  columns: () => undefined,
  refusedInTransaction: 'CREATE EXTERNAL CONNECTION',
  async run(core, statement, context) {
    const { name } = statement;
    const asker = askerOf(core, context);
    await requirePrivilege(asker, {
      anyOf: ['EXTERNALCONNECTION'],
      refusal:
        'only users with the EXTERNALCONNECTION system privilege are allowed to CREATE EXTERNAL CONNECTION',
    });
    requireName(name);
    if (
      (await asker.instance.withSystemClient((client) => readConnection(client, name), asker)) !== undefined
    ) {
      return exists(statement, context);
    }
    const definition = await admitUri(core, statement.uri, context);
    const isNew = await asker.instance.withSystemClient(
      (client) =>
        insertConnection(client, {
          name,
          ...definition,
          owner: context.session.user,
          now: core.options.clock.now(),
        }),
      { signal: core.signal },
    );
    if (!isNew) return exists(statement, context);
    log(core, context, `external connection "${name}" created`);
    return done('CREATE EXTERNAL CONNECTION');
  },
};

export const alterExternalConnection: UseCase<Alter> = {
  columns: () => undefined,
  refusedInTransaction: 'ALTER EXTERNAL CONNECTION',
  async run(core, statement, context) {
    const { name } = statement;
    const asker = askerOf(core, context);
    const found = await asker.instance.withSystemClient((client) => readConnection(client, name), asker);
    if (found === undefined && statement.ifExists) {
      context.onNotice({
        severity: 'NOTICE',
        sqlstate: '00000',
        message: `external connection "${name}" does not exist, skipping`,
      });
      return done('ALTER EXTERNAL CONNECTION');
    }
    await requireConnectionPrivilege(asker, { name, privilege: 'UPDATE' });
    const definition = await admitUri(core, statement.uri, context);
    await asker.instance.withSystemClient(
      (client) => updateConnection(client, { name, ...definition, now: core.options.clock.now() }),
      { signal: core.signal },
    );
    log(core, context, `external connection "${name}" altered`);
    return done('ALTER EXTERNAL CONNECTION');
  },
};

export const dropExternalConnection: UseCase<Drop> = {
  columns: () => undefined,
  refusedInTransaction: 'DROP EXTERNAL CONNECTION',
  async run(core, { name }, context) {
    const asker = askerOf(core, context);
    await requireConnectionPrivilege(asker, { name, privilege: 'DROP' });
    await asker.instance.withSystemClient((client) => deleteConnection(client, name), {
      signal: core.signal,
    });
    log(core, context, `external connection "${name}" dropped`);
    return done('DROP EXTERNAL CONNECTION');
  },
};

export const showExternalConnections: UseCase<Show> = {
  columns: () => LIST,
  refusedInTransaction: undefined,
  async run(core, { name }, context) {
    const asker = askerOf(core, context);
    const usable = await asker.instance.withSystemClient(
      (client) => grantedConnections(client, { user: asker.user, anyOf: ['USAGE', 'DROP', 'UPDATE'] }),
      asker,
    );
    const shown = await visible(core, { name, alsoNamed: usable, context });
    return rowsResult(
      LIST,
      shown.map((connection) => [connection.name, redactUri(connection.uri), connection.type]),
    );
  },
};

export const showCreateExternalConnections: UseCase<ShowCreate> = {
  columns: () => CREATE,
  refusedInTransaction: undefined,
  async run(core, { name }, context) {
    const shown = await visible(core, { name, alsoNamed: new Set(), context });
    return rowsResult(
      CREATE,
      shown.map((connection) => [connection.name, createStatement(connection)]),
    );
  },
};

/** All for admins; own ones, and those named, for others. @throws InputError `object_not_found` for one that is asked for by name */
async function visible(
  core: Core,
  options: { name: string | undefined; alsoNamed: ReadonlySet<string>; context: ExecuteContext },
): Promise<readonly ExternalConnection[]> {
  const { name, alsoNamed, context } = options;
  const asker = askerOf(core, context);
  const all =
    name === undefined
      ? await asker.instance.withSystemClient(readConnections, asker)
      : [await requireConnection(asker, name)];
  if (await holdsPrivilege(asker, [])) return all;
  const shown = all.filter((connection) => connection.owner === asker.user || alsoNamed.has(connection.name));
  if (name === undefined || shown.length > 0) return shown;
  throw new InputError(
    'insufficient_privilege',
    `must be admin or owner of the external connection "${name}"`,
  );
}

function createStatement({ name, uri }: ExternalConnection): string {
  return printStatement({
    kind: 'create_external_connection',
    ifNotExists: false,
    name,
    uri: { kind: 'string', value: uri },
  });
}

/** Reads the URI, and tries the storage or the key that it leads to. @throws AppError, without the secrets of the URI in it */
async function admitUri(
  core: Core,
  value: Value,
  context: ExecuteContext,
): Promise<{ readonly type: ConnectionType; readonly uri: string }> {
  const written = textValue(value, 'the URI of an external connection');
  const { driver, type } = parseConnectionUri(written);
  // Whoever uses it later means the files of who made it.
  const uri = withUserfileOwner(written, context.session.user);
  if (driver === 'nodelocal' || driver === 'service' || driver === 'userfile') {
    const location = await core.resolvePlace(context.session.virtualClusterId, uri);
    await requireLocationAccess(core, context, location);
    await probeStorage(core, hurried(location), context);
  }
  if (driver === 'kms') {
    await requireKmsAccess(core, uri, context);
    await probeKms(core, { uri, msMax: PROBE_MS_MAX }, context);
  }
  return { type, uri };
}

/** Whoever names a connection waits for the answer: an address that is wrong must not take as long as a backup would try. */
function hurried(location: Place): Place {
  if (!('service' in location)) return location;
  return { ...location, timeoutMs: Math.min(location.timeoutMs, PROBE_MS_MAX) };
}

/** @throws InputError `name_invalid` */
function requireName(name: string): void {
  if (name.length <= NAME_LENGTH_MAX && !/[/?#\s\0]/.test(name)) return;
  throw new InputError(
    'name_invalid',
    `invalid name of an external connection: ${JSON.stringify(name.slice(0, 64))}`,
    {
      hint: `use at most ${NAME_LENGTH_MAX} characters, without blanks, "/", "?" and "#": it stands in external://name/path`,
    },
  );
}

/** @throws InputError `object_exists` unless IF NOT EXISTS was said */
function exists(statement: Create, context: ExecuteContext) {
  const { name } = statement;
  if (!statement.ifNotExists) {
    throw new InputError(
      'object_exists',
      `external connection with connection name '${name}' already exists`,
      {
        hint: 'ALTER EXTERNAL CONNECTION gives it another URI',
      },
    );
  }
  context.onNotice({
    severity: 'NOTICE',
    sqlstate: '42710',
    message: `external connection "${name}" already exists, skipping`,
  });
  return done('CREATE EXTERNAL CONNECTION');
}

function log(core: Core, { session }: ExecuteContext, what: string): void {
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `${what} by ${session.user}`,
  );
}
