import { InputError } from '../base/index.ts';
import type { ServedAs } from '../control/index.ts';
import {
  joinStartupOptions,
  PROTOCOL_3_0,
  PROTOCOL_3_2,
  protocolViolation,
  splitStartupOptions,
} from '../pg/index.ts';

/** Where a client that names no database lands. */
const DEFAULT_DATABASE = 'defaultdb';
/** As in Postgres: longer names are cut, here they are refused. */
const IDENTIFIER_BYTES_MAX = 63;

/** What a client asked for in its StartupMessage, the virtual cluster's name taken out of the rest. */
export interface SessionRequest {
  readonly user: string;
  readonly database: string;
  /** Undefined for the default target. */
  readonly virtualClusterName: string | undefined;
  readonly applicationName: string;
  /** The credentials are those of the system VC, and so is the right to enter: `-cauthority=system`. */
  readonly hasSystemAuthority: boolean;
  /** A replication connection speaks another language; ours is not spoken there. */
  readonly isReplication: boolean;
  /** It follows a virtual cluster: credentials and right are those of the system VC, log and files those of the one that is named. */
  readonly isStream: boolean;
  /** What goes on to the instance, `user`, `database` and the remaining `options` included. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The version to be spoken, of those asked for and known. */
  readonly protocol: number;
  /** Undefined when the client gets what it asked for. */
  readonly negotiation: { readonly unknownParameters: readonly string[] } | undefined;
}

/** @throws InputError `protocol_violation`, `authorization_invalid`, `parameter_invalid` */
export function readSessionRequest(message: {
  protocol: number;
  parameters: ReadonlyMap<string, string>;
}): SessionRequest {
  const { parameters } = message;
  const user = parameters.get('user') ?? '';
  if (user === '') {
    throw new InputError('authorization_invalid', 'no user name specified in startup packet');
  }
  const options = takeClusterOption(splitStartupOptions(parameters.get('options') ?? ''));
  const authority = takeEntry(options.rest, 'authority');
  const target = takeClusterDatabase({
    database: parameters.get('database') ?? '',
    virtualClusterName: options.virtualClusterName,
  });
  const passedOn = new Map<string, string>();
  const unknownParameters: string[] = [];
  for (const [name, value] of parameters) {
    if (name.startsWith('_pq_.')) unknownParameters.push(name);
    else passedOn.set(name, value);
  }
  passedOn.set('database', target.database);
  const replication = readReplication(parameters.get('replication'));
  const hasSystemAuthority = readAuthority(authority.value);
  if (authority.rest.length > 0) passedOn.set('options', joinStartupOptions(authority.rest));
  else passedOn.delete('options');
  return {
    user,
    ...target,
    applicationName: parameters.get('application_name') ?? '',
    hasSystemAuthority,
    isReplication: replication !== 'no',
    isStream: replication === 'physical' && hasSystemAuthority,
    parameters: passedOn,
    ...chooseProtocol({ asked: message.protocol, unknownParameters }),
  };
}

/** The same session for another role. */
export function servedAs(request: SessionRequest, { role, database, settings }: ServedAs): SessionRequest {
  const parameters = new Map(request.parameters);
  parameters.set('user', role);
  parameters.set('database', database ?? request.database);
  const asked = splitStartupOptions(parameters.get('options') ?? '');
  const own = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  if (asked.length + own.length > 0) parameters.set('options', joinStartupOptions([...asked, ...own]));
  return { ...request, user: role, database: database ?? request.database, parameters };
}

/**
 * Versions 3.0 and 3.2 are spoken; 3.1 was never anybody's. What is unknown is answered by the next lower version, which
 * the client may accept or not.
 */
function chooseProtocol(options: {
  asked: number;
  unknownParameters: readonly string[];
}): Pick<SessionRequest, 'protocol' | 'negotiation'> {
  const { asked, unknownParameters } = options;
  if (asked >>> 16 !== 3)
    throw protocolViolation(`unsupported frontend protocol ${asked >>> 16}.${asked & 0xffff}`);
  const protocol = asked >= PROTOCOL_3_2 ? PROTOCOL_3_2 : PROTOCOL_3_0;
  const isAsAsked = protocol === asked && unknownParameters.length === 0;
  return { protocol, negotiation: isAsAsked ? undefined : { unknownParameters } };
}

/** `no`, `physical` or `logical`, as Postgres reads it. @throws InputError `parameter_invalid` */
function readReplication(value: string | undefined): 'no' | 'physical' | 'logical' {
  if (value === undefined) return 'no';
  const word = value.toLowerCase();
  if (word === 'database') return 'logical';
  if (['true', 'on', 'yes', '1', 't', 'y'].includes(word)) return 'physical';
  if (['false', 'off', 'no', '0', 'f', 'n'].includes(word)) return 'no';
  throw new InputError('parameter_invalid', `invalid value for parameter "replication": "${value}"`, {
    hint: 'valid values are: "false", 0, "true", 1, "database"',
  });
}

/**
 * Finds `-ccluster=NAME`, `-c cluster=NAME` or `--cluster=NAME` among the entries of `options`; the last one counts. Some
 * clients percent-encode the entry once too often (`-ccluster%3Dsystem`); an entry without "=" is decoded.
 */
export function takeClusterOption(args: readonly string[]): {
  virtualClusterName: string | undefined;
  rest: readonly string[];
} {
  const entries = args.flatMap((arg) => (isEncoded(arg) ? splitStartupOptions(decoded(arg)) : [arg]));
  const { value, rest } = takeEntry(entries, 'cluster');
  return { virtualClusterName: value, rest };
}

/** Takes `-cNAME=value` out of the entries of `options`; the last one counts. */
function takeEntry(
  entries: readonly string[],
  name: string,
): { value: string | undefined; rest: readonly string[] } {
  const inTwoParts = new RegExp(`^${name}=(.*)$`, 's');
  const inOnePart = new RegExp(`^(?:-c|--)${name}=(.*)$`, 's');
  let value: string | undefined;
  const rest: string[] = [];
  for (let at = 0; at < entries.length; at++) {
    const entry = entries[at] ?? '';
    const next = entries[at + 1];
    const inTwo = entry === '-c' && next !== undefined ? inTwoParts.exec(next) : null;
    const inOne = inOnePart.exec(entry);
    if (inTwo !== null) at++;
    const found = inTwo ?? inOne;
    if (found !== null) value = found[1];
    else rest.push(entry);
    if (found === null && entry === '-c' && next !== undefined) rest.push(entries[++at] ?? '');
  }
  return { value, rest };
}

/** @throws InputError `parameter_invalid` */
function readAuthority(value: string | undefined): boolean {
  if (value === undefined) return false;
  if (value === 'system') return true;
  throw new InputError('parameter_invalid', `invalid value for option "authority": "${value}"`, {
    hint: 'the only authority is -cauthority=system',
  });
}

function isEncoded(arg: string): boolean {
  return !arg.includes('=') && /%3d/i.test(arg);
}

function decoded(arg: string): string {
  try {
    return decodeURIComponent(arg);
  } catch {
    return arg; // Not an encoding after all; Postgres will say what it thinks of it.
  }
}

/**
 * Reads `cluster:NAME/database`. A database that is really called so is reachable by naming the virtual cluster in
 * `options`: then the name is taken as it stands.
 */
function takeClusterDatabase(given: { database: string; virtualClusterName: string | undefined }): {
  database: string;
  virtualClusterName: string | undefined;
} {
  const match =
    given.virtualClusterName === undefined ? /^cluster:([^/]*)(?:\/(.*))?$/s.exec(given.database) : null;
  const database = match === null ? given.database : (match[2] ?? '');
  if (Buffer.byteLength(database) > IDENTIFIER_BYTES_MAX) {
    throw new InputError('name_invalid', `database name is longer than ${IDENTIFIER_BYTES_MAX} bytes`);
  }
  return {
    database: database === '' ? DEFAULT_DATABASE : database,
    virtualClusterName: match === null ? given.virtualClusterName : match[1],
  };
}
