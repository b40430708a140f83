import { userInfo } from 'node:os';
import { resolve } from 'node:path';
import { formatTimestamp, InputError, type Logger } from '../../base/index.ts';
import {
  type OfflinePlan,
  type OfflineRestore,
  planOfflineRestore,
  restoreOffline,
} from '../../control/index.ts';
import { systemClock, systemRng } from '../../daemon/index.ts';
import { Confinement, createBulkWorker, createCollectionReader } from '../../timeline/index.ts';
import { readKeyFile } from './cluster-key.ts';
import { openSource, readLocations } from '../collection-source.ts';
import { readEncryptionKeys } from '../encryption-keys.ts';
import { defineCommand } from '../command.ts';
import { optionalFlag, switchFlag, valueFlag } from '../flags/flag.ts';
import { readPath } from '../flags/readers.ts';
import { DEFAULT_STORE } from '../flags/server-flags.ts';

/** Postgres refuses to run as root. */
const USER_INSTEAD_OF_ROOT = 'postgres';

export const restoreCommand = defineCommand({
  name: 'restore',
  usage: 'COLLECTION ... --to DIR [--backup PATH] [--as-of TIME] [--plan]',
  description: [
    'Restores a virtual cluster from a collection of backups into a plain data directory that PostgreSQL of the same major version starts: without a cluster, without a daemon. The collection is a folder, s3://, gs:// or azure-blob:// with their parameters, or nodelocal:// with --external-io-dir; several where it lies in several places. Given -, they are read from standard input, one on each line, so that secrets are in no list of processes.',
    'Backups are sealed with the key of the cluster that made them, which "atoll cluster-key export" writes, or the file "cluster-key" in its store: keep a copy of it apart from the store.',
    'Encrypted backups need their passphrase, or one of their KMS keys, too. Neither is taken from the command line, which everybody on the machine can read.',
    'The first start of the data directory recovers it to the moment that was asked for. The user named in its pg_ident.conf gets in through the socket in /tmp, as "atoll" (the superuser) or as any other role.',
  ],
  examples: [
    'atoll restore /backups/main --cluster-key-file ./cluster-key --to ./restored --plan',
    'atoll restore - --cluster-key-file ./cluster-key --to ./restored < collection-uri',
    'atoll restore /backups/main --encryption-passphrase-file ./passphrase --to ./restored',
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
    incrementalLocation: optionalFlag({
      name: 'incremental-location',
      inEnvironment: false,
      placeholder: 'URI',
      help: 'Where the incremental backups are, when they are not in the collection.',
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
    passphraseFile: optionalFlag({
      name: 'encryption-passphrase-file',
      inEnvironment: false,
      placeholder: 'FILE',
      help: 'File whose first line is the passphrase of encrypted backups; - for standard input.',
      parse: (text) => (text === '-' ? text : readPath(text)),
    }),
    kmsFile: optionalFlag({
      name: 'kms-uri-file',
      inEnvironment: false,
      placeholder: 'FILE',
      help: 'File with URIs of KMS keys of encrypted backups, one on each line, of which one is enough; - for standard input.',
      parse: (text) => (text === '-' ? text : readPath(text)),
    }),
    externalDirectory: valueFlag({
      name: 'external-io-dir',
      placeholder: 'DIR',
      default: `${DEFAULT_STORE}/extern`,
      help: 'Folder behind nodelocal:// addresses.',
      parse: readPath,
    }),
  },
  positionalsMax: 64,
  async run(flags, { stdin, stdout, stderr }, positionals) {
    const { to, keyFile = resolve(DEFAULT_STORE, 'cluster-key') } = flags;
    if (positionals.length === 0 || to === undefined) {
      const message = positionals.length === 0 ? 'which collection?' : 'where to? give --to DIR';
      throw new InputError('usage', message, {
        hint: 'see atoll restore --help',
      });
    }
    const clock = systemClock();
    const rng = systemRng();
    const restore: OfflineRestore = {
      collection: await openSource({
        locations: await readLocations(positionals, stdin),
        incrementals: flags.incrementalLocation ?? null,
        externalDirectory: flags.externalDirectory,
      }),
      backup: flags.backup ?? null,
      asOf: flags.asOf ?? null,
      key: await readKeyFile(keyFile),
      keys: await readEncryptionKeys(flags, { stdin, clock, isStdinTaken: positionals.includes('-') }),
      targetDirectory: to,
      osUser: flags.owner ?? ownerName(),
    };
    const interrupted = new AbortController();
    const onSignal = () => interrupted.abort();
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
    const logger = quietLogger(stderr);
    const confinement = new Confinement({ logger });
    const tools = {
      clock,
      rng,
      signal: interrupted.signal,
      collectionReader: createCollectionReader({ rng }),
      bulkWorker: createBulkWorker({ clock, logger, isLimited: false, confinement }),
      onProgress: () => undefined,
    };
    try {
      const plan = flags.plan
        ? await planOfflineRestore(restore, tools)
        : await restoreOffline(restore, tools);
      stdout.write(flags.plan ? planText(plan) : `${planText(plan)}restored to ${to}; ${startText(to)}\n`);
      return 0;
    } finally {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    }
  },
});

function ownerName(): string {
  return process.geteuid?.() === 0 ? USER_INSTEAD_OF_ROOT : userInfo().username;
}

/** A directory that root has written is root's, and Postgres wants to own its own. */
function startText(directory: string): string {
  const start = `start it with: postgres -D ${directory}`;
  return process.geteuid?.() === 0
    ? `give it to a user other than root (chown -R ${USER_INSTEAD_OF_ROOT} ${directory}); as that user ${start}`
    : start;
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
