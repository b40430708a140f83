/** What an instance follows, if it does: a record of the node beside its configuration, which alone decides whether a start is one of a follower. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { errnoOf, formatTimestamp, parseIncarnationId, type Timestamp } from '../base/index.ts';
import { type ControlFile, PLAIN_SOURCE } from '../pg/index.ts';
import type { Following, InternalClient } from './contract.ts';
import { type Owner, syncDirectory, updateFileDurably } from './durable-files.ts';
import { type RecordFormat, readRecord, sealRecord } from './sealed-record.ts';

const RECORD_FILE = 'following.json';
/** In the form that libpq reads; it demands that nobody else can. */
const PASSWORD_FILE = 'passfile';
/** What libpq reads of certificates. */
const CERTIFICATE_FILES = {
  authority: 'source-ca.crt',
  certificate: 'source.crt',
  key: 'source.key',
} as const;
/** In the folder of configuration, for the server alone. */
export const SECRET_FILES: readonly string[] = [PASSWORD_FILE, ...Object.values(CERTIFICATE_FILES)];

const followingSchema = z.strictObject({
  incarnation: z.string().transform(parseIncarnationId),
  phase: z.enum(['following', 'cut_off', 'promoting']),
  timelineId: z.int(),
  slot: z.string(),
  source: z.strictObject({
    host: z.string(),
    port: z.int(),
    user: z.string(),
    password: z.string().nullable(),
    options: z.string(),
    // Records of before have none.
    tls: z
      .strictObject({
        mode: z.enum(['disable', 'prefer', 'require', 'verify-ca', 'verify-full']),
        authority: z.string().nullable(),
        certificate: z.string().nullable(),
        key: z.string().nullable(),
      })
      .default(PLAIN_SOURCE),
  }),
  stopAt: z
    .string()
    .transform((text) => BigInt(text) as Timestamp)
    .nullable(),
});

const FORMAT: RecordFormat<Following> = {
  format: 'atoll-following',
  version: 1,
  body: followingSchema as unknown as z.ZodType<Following>,
};

/** Null when nothing is followed. @throws CorruptError, AppError `format_unsupported` */
export async function readFollowing(configuration: string): Promise<Following | null> {
  try {
    return await readRecord(FORMAT, join(configuration, RECORD_FILE));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Durable when it returns. It holds a password: only the daemon reads it. */
export async function writeFollowing(configuration: string, following: Following): Promise<void> {
  const { stopAt } = following;
  const body = { ...following, stopAt: stopAt === null ? null : String(stopAt) } as unknown as Following;
  const path = join(configuration, RECORD_FILE);
  await updateFileDurably({ path, content: sealRecord(FORMAT, body), mode: 0o600 });
}

/** Harmless when there is none. */
export async function removeFollowing(configuration: string): Promise<void> {
  for (const name of [RECORD_FILE, ...SECRET_FILES]) await rm(join(configuration, name), { force: true });
  await syncDirectory(configuration);
}

/** What the server of a follower reads password and certificates from; what it needs no more is removed. */
export async function writeSecretFiles(
  configuration: string,
  { source }: Following,
  owner: Owner | null,
): Promise<void> {
  const password = (source.password ?? '').replaceAll('\\', '\\\\').replaceAll(':', '\\:');
  const path = join(configuration, PASSWORD_FILE);
  await updateFileDurably({ path, content: `*:*:*:*:${password}\n`, mode: 0o600, owner });
  for (const part of ['authority', 'certificate', 'key'] as const) {
    const file = join(configuration, CERTIFICATE_FILES[part]);
    const content = source.tls[part];
    if (content === null) await rm(file, { force: true });
    else await updateFileDurably({ path: file, content, mode: 0o600, owner });
  }
}

/**
 * Configuration of a follower, on top of that of every instance. `control` is that of its directory: a follower needs as many places of
 * every kind as its source has.
 */
export function followerParameters(
  following: Following,
  options: { configuration: string; control: ControlFile; connections: number },
): Readonly<Record<string, string>> {
  const { phase, slot, stopAt, timelineId } = following;
  const { control, connections } = options;
  const target =
    stopAt === null
      ? {}
      : {
          recovery_target_time: formatTimestamp(stopAt),
          recovery_target_inclusive: 'on',
          recovery_target_action: 'pause',
        };
  return {
    primary_conninfo: phase === 'following' ? connectionInfo(following, options.configuration) : '',
    primary_slot_name: phase === 'following' ? slot : '',
    recovery_target_timeline: String(timelineId),
    ...target,
    restore_command: '',
    max_connections: String(Math.max(connections, control.maxConnections)),
    max_worker_processes: String(Math.max(8, control.maxWorkerProcesses)),
    max_wal_senders: String(Math.max(12, control.maxWalSenders)),
    max_prepared_transactions: String(control.maxPreparedTransactions),
    max_locks_per_transaction: String(Math.max(64, control.maxLocksPerTransaction)),
    // Whoever reads here waits, or begins again; replay does not.
    max_standby_streaming_delay: '1s',
    // Of log that lies in `pg_wal` already.
    max_standby_archive_delay: '1s',
    wal_receiver_status_interval: '1s',
    wal_receiver_timeout: '15s',
    wal_retrieve_retry_interval: '500ms',
    // Between promotion and the first start as an instance of its own nothing of the original's may run.
    max_logical_replication_workers: '0',
    autovacuum: 'off',
    // A summarizer that misses log rests for ten seconds, and lets no server stop meanwhile.
    summarize_wal: 'off',
  };
}

/** Replay notes in pg_control what the source has, before it finds that it has less. */
export async function hasFewerPlaces(client: InternalClient, control: ControlFile): Promise<boolean> {
  const needed: Readonly<Record<string, number>> = {
    max_connections: control.maxConnections,
    max_worker_processes: control.maxWorkerProcesses,
    max_wal_senders: control.maxWalSenders,
    max_prepared_transactions: control.maxPreparedTransactions,
    max_locks_per_transaction: control.maxLocksPerTransaction,
  };
  const names = `{${Object.keys(needed).join(',')}}`;
  const rows = await client.query(
    'SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY ($1::text[])',
    [names],
  );
  return rows.some(({ name, setting }) => Number(setting) < (needed[name ?? ''] ?? 0));
}

/** Without the password: Postgres shows this text. */
function connectionInfo({ source, slot }: Following, configuration: string): string {
  const parts: Readonly<Record<string, string>> = {
    host: source.host,
    port: String(source.port),
    user: source.user,
    passfile: join(configuration, PASSWORD_FILE),
    options: source.options,
    application_name: slot,
    sslmode: source.tls.mode,
    // Named also where there are none, lest libpq look into the home folder.
    sslrootcert: join(configuration, CERTIFICATE_FILES.authority),
    sslcert: join(configuration, CERTIFICATE_FILES.certificate),
    sslkey: join(configuration, CERTIFICATE_FILES.key),
    gssencmode: 'disable',
    connect_timeout: '10',
    tcp_user_timeout: '15000',
  };
  return Object.entries(parts)
    .map(([name, value]) => `${name}='${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`)
    .join(' ');
}
