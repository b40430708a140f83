/**
 * Makes a materialized data directory one that an ordinary PostgreSQL starts, without Atoll: configuration of its own, and what tells it
 * where recovery ends. Whoever owns the directory is its superuser.
 */
import { join } from 'node:path';
import { formatLsn } from '../base/index.ts';
import { PREPARED_TRANSACTIONS } from './configuration.ts';
import type { RecoveryTarget } from './contract.ts';
import { writeFileDurably } from './durable-files.ts';

/** Name of the mapping from the operating system's user to roles. */
const MAP = 'owner';

/** Durable when it returns. */
export async function makePlainDirectory(options: {
  readonly dataDirectory: string;
  readonly recovery: RecoveryTarget;
  /** Of the operating system: who may log in as any role, over the socket alone. */
  readonly osUser: string;
}): Promise<void> {
  const { dataDirectory, recovery, osUser } = options;
  const files = {
    'postgresql.conf': configurationText(recovery),
    'postgresql.auto.conf': '',
    'pg_hba.conf': `# Nobody but the user named in pg_ident.conf gets in, and only through the socket.\nlocal all all peer map=${MAP}\n`,
    'pg_ident.conf': `# MAP  SYSTEM-USER  DATABASE-USER\n${MAP} ${quoted(osUser)} all\n`,
  };
  for (const [name, content] of Object.entries(files)) {
    await writeFileDurably({ path: join(dataDirectory, name), content, mode: 0o600 });
  }
  // The last one: before it, a start would not recover to the target.
  await writeFileDurably({ path: join(dataDirectory, 'recovery.signal'), content: '', mode: 0o600 });
}

function configurationText({ lsn, timelineId, logEndLsn = null }: RecoveryTarget): string {
  // Postgres ends in an error when its target never comes.
  const target =
    logEndLsn === null
      ? [`recovery_target_lsn = '${formatLsn(lsn)}'`, 'recovery_target_inclusive = off']
      : ['# The log ends where recovery shall end.'];
  return [
    '# Written by "atoll restore". The first start recovers to the moment that was asked for; the settings of recovery say nothing afterwards.',
    ...target,
    `recovery_target_timeline = '${timelineId}'`,
    "recovery_target_action = 'promote'",
    "# All the log that is needed lies in pg_wal.\nrestore_command = 'false'",
    'hot_standby = off',
    '',
    "# Reached by nobody but its owner until you say otherwise: here, in pg_hba.conf and in pg_ident.conf.\nlisten_addresses = ''",
    "unix_socket_directories = '/tmp'",
    '# A copy must never consume the slots of the original: raise this only after its subscriptions were looked at.',
    'max_logical_replication_workers = 0',
    'wal_level = logical',
    '# Those that were in doubt still are; the log may hold as many.',
    `max_prepared_transactions = ${PREPARED_TRANSACTIONS}`,
    'shared_buffers = 128MB',
    "timezone = 'UTC'",
    "lc_messages = 'C'",
    '',
  ].join('\n');
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}
