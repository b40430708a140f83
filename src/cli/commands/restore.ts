import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { resolve } from 'node:path';
import { errnoOf, formatTimestamp, InputError, type Logger } from '../../base/index.ts';
import { resolveNodelocalUri } from '../../blob/index.ts';
import {
  type OfflinePlan,
  type OfflineRestore,
  planOfflineRestore,
  restoreOffline,
} from '../../control/index.ts';
import { systemClock, systemRng } from '../../daemon/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import { type CollectionLocation, createBulkWorker, createCollectionReader } from '../../timeline/index.ts';
import { defineCommand } from '../command.ts';
import { optionalFlag, switchFlag, valueFlag } from '../flags/flag.ts';
import { readPath } from '../flags/readers.ts';
import { DEFAULT_STORE } from '../flags/server-flags.ts';

const KEY_BYTES = 32;
/** Postgres refuses to run as root. */
const USER_INSTEAD_OF_ROOT = 'postgres';

export const restoreCommand = defineCommand({
  name: 'restore',
  usage: 'COLLECTION --to DIR [--backup PATH] [--as-of TIME] [--plan]',
  description: [
    'Restores a virtual cluster from a collection of backups into a plain data directory that PostgreSQL of the same major version starts: without a cluster, without a daemon. The collection is a folder, or nodelocal:// with --external-io-dir.',
    'Backups are sealed with the key of the cluster that made them, the file "cluster-key" in its store: keep a copy of it apart from the store.',
    'The first start of the data directory recovers it to the moment that was asked for. The user named in its pg_ident.conf gets in through the socket in /tmp, as "atoll" (the superuser) or as any other role.',
  ],
  examples: [
    'atoll restore /backups/main --cluster-key-file ./cluster-key --to ./restored --plan',
    'atoll restore /backups/main --as-of "2026-03-04 05:06:07+00" --to ./restored',
    'postgres -D ./restored & psql -h /tmp -U atoll defaultdb',
  ],
  flags: {
    to: optionalFlag({
      name: 'to',
      inEnvironment: false,
      placeholder: 'DIR',
      help: 'Folder that becomes the data directory; absent or empty.',
      parse: readPath,
    }),
    backup: optionalFlag({
      name: 'backup',
      inEnvironment: false,
      placeholder: 'PATH',
      defaultText: 'the newest',
      help: 'Full backup to restore from, with what was added to it, e.g. 2026/03/04-050607.00.',
      parse: (text) => text,
    }),
    asOf: optionalFlag({
      name: 'as-of',
      inEnvironment: false,
      placeholder: 'TIME',
      defaultText: 'the end of the newest backup',
      help: 'Moment to restore: the end of a backup, or any that a revision history holds.',
      parse: (text) => text,
    }),
    plan: switchFlag({
      name: 'plan',
      inEnvironment: false,
      help: 'Tells what would be restored, how much and how long, and writes nothing.',
    }),
    owner: optionalFlag({
      name: 'owner',
      inEnvironment: false,
      placeholder: 'USER',
      defaultText: `who runs the command, for root ${USER_INSTEAD_OF_ROOT}`,
      help: 'User of the operating system who may log in as any role.',
      parse: (text) => text,
    }),
    keyFile: optionalFlag({
      name: 'cluster-key-file',
      placeholder: 'FILE',
      defaultText: `${DEFAULT_STORE}/cluster-key`,
      help: 'Key that the backups were sealed with.',
      parse: readPath,
    }),
    externalDirectory: valueFlag({
      name: 'external-io-dir',
      placeholder: 'DIR',
      default: `${DEFAULT_STORE}/extern`,
      help: 'Folder behind nodelocal:// addresses.',
      parse: readPath,
    }),
  },
  positionalsMax: 1,
  async run(flags, { stdout, stderr }, [uri]) {
    const { to, keyFile = resolve(DEFAULT_STORE, 'cluster-key') } = flags;
    if (uri === undefined || to === undefined) {
      throw new InputError('usage', uri === undefined ? 'which collection?' : 'where to? give --to DIR', {
        hint: 'see atoll restore --help',
      });
    }
    const restore: OfflineRestore = {
      collection: await openFolder(uri, flags.externalDirectory),
      backup: flags.backup ?? null,
      asOf: flags.asOf ?? null,
      key: await readKey(keyFile),
      targetDirectory: to,
      osUser: flags.owner ?? ownerName(),
    };
    const clock = systemClock();
    const interrupted = new AbortController();
    const onSignal = () => interrupted.abort();
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
    const tools = {
      clock,
      signal: interrupted.signal,
      collectionReader: createCollectionReader({ rng: systemRng() }),
      bulkWorker: createBulkWorker({ clock, logger: quietLogger(stderr), isLimited: false }),
      onProgress: () => undefined,
    };
    try {
      const plan = flags.plan
        ? await planOfflineRestore(restore, tools)
        : await restoreOffline(restore, tools);
      stdout.write(
        flags.plan
          ? planText(plan)
          : `${planText(plan)}restored to ${to}; start it with: postgres -D ${to}\n`,
      );
      return 0;
    } finally {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    }
  },
});

async function openFolder(uri: string, externalDirectory: string): Promise<CollectionLocation> {
  if (/^nodelocal:/i.test(uri)) {
    const nodeId = Number(/^nodelocal:\/\/(\d+)\//i.exec(uri)?.[1] ?? 1);
    return resolveNodelocalUri({ uri, externalDirectory, nodeId });
  }
  if (/^[a-z][a-z0-9+.-]*:/i.test(uri)) {
    throw new InputError(
      'feature_not_supported',
      `not a folder, and not nodelocal://: ${new URL(uri).protocol}//`,
      {
        hint: 'copy the collection into a folder, and name that',
      },
    );
  }
  const directory = readPath(uri);
  return { displayUri: directory, directory };
}

async function readKey(path: string): Promise<ReturnType<typeof clusterKeyOf>> {
  try {
    const secret = await readFile(path);
    if (secret.length !== KEY_BYTES) throw new InputError('usage', `${path} is not the key of a cluster`);
    return clusterKeyOf(secret);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new InputError('usage', `the key of the cluster cannot be read from ${path}: ${errnoOf(error)}`, {
      hint: 'give --cluster-key-file: the file "cluster-key" of the store that the backups were made in',
    });
  }
}

function ownerName(): string {
  return process.geteuid?.() === 0 ? USER_INSTEAD_OF_ROOT : userInfo().username;
}

function planText({ full, moment, asOf, estimate, freeBytes }: OfflinePlan): string {
  const { layer } = moment;
  const databases = layer.objects.filter(({ kind }) => kind === 'database').map(({ name }) => name);
  const lines: readonly (readonly [string, string])[] = [
    ['virtual cluster', layer.virtualClusterName],
    ['as of', formatTimestamp(asOf)],
    ['full backup', full],
    ['from', layer.subdirectory],
    ['PostgreSQL', String(layer.engineMajor)],
    ['databases', databases.join(', ')],
    ['to write', `${estimate.bytesToWrite} bytes, ${freeBytes} are free`],
    ['to replay', `${estimate.bytesToReplay} bytes of log`],
    ['estimate', `${Math.ceil(Number(estimate.durationMs) / 1000)} s, the first start included`],
  ];
  return lines.map(([what, value]) => `${what.padEnd(16)} ${value}\n`).join('');
}

/** What goes wrong is told by the command's own error. */
function quietLogger(stderr: NodeJS.WritableStream): Logger {
  const tell = (message: string) => void stderr.write(`${message}\n`);
  const logger: Logger = {
    log: (severity, message) => (severity === 'info' ? undefined : tell(message)),
    info: () => undefined,
    warning: tell,
    error: tell,
    for: () => logger,
  };
  return logger;
}
