/** `<store>/vc/<id>/process.json`: which process was started last, so that a later daemon knows it again. */
import { join } from 'node:path';
import { z } from 'zod';
import { AppError, type Clock, errnoOf, isAppError } from '../base/index.ts';
import { startedAtSeconds, startTokenOf } from './os-process.ts';
import type { Privileges } from './privileges/contract.ts';
import { isPresent } from './data-directory.ts';
import { adoptPostmaster, endLeftovers, type Postmaster } from './postmaster.ts';
import { POSTMASTER_PID_NAME, readPostmasterPid } from './postmaster-pid.ts';
import { type RecordFormat, readRecord, writeRecord } from './sealed-record.ts';

const RECORD_FILE = 'process.json';
/** How far a server's own note of its start may be from the kernel's. */
const START_TOLERANCE_SECONDS = 5;

const bodySchema = z.strictObject({ pid: z.int().positive(), startToken: z.string() });
type ProcessRecord = z.infer<typeof bodySchema>;

const PROCESS_FORMAT: RecordFormat<ProcessRecord> = { format: 'atoll-process', version: 1, body: bodySchema };

export async function recordProcess(clusterDirectory: string, process: Postmaster): Promise<void> {
  await writeRecord(PROCESS_FORMAT, {
    path: join(clusterDirectory, RECORD_FILE),
    mode: 0o600,
    body: { pid: process.pid, startToken: process.startToken },
  });
}

/**
 * The server that runs on a data directory, or undefined when there is none: `postmaster.pid` names it, the process
 * works in the directory, and it began when our record, or failing that its own note, says.
 * @throws AppError `instance_failed` when a process works there that is not the one on record
 */
export async function findRunning(options: {
  clusterDirectory: string;
  dataDirectory: string;
  clock: Clock;
  privileges: Privileges;
}): Promise<Postmaster | undefined> {
  const { clusterDirectory, dataDirectory, clock, privileges } = options;
  const claim = await readPostmasterPid(dataDirectory);
  if (claim === undefined || claim.dataDirectory !== dataDirectory) return undefined;
  const startToken = await startTokenOf(claim.pid);
  if (startToken === undefined || !(await privileges.worksIn(claim.pid, dataDirectory))) return undefined;
  const record = await readProcessRecord(clusterDirectory);
  const isSame =
    record?.pid === claim.pid
      ? record.startToken === startToken
      : Math.abs(((await startedAtSeconds(claim.pid)) ?? 0) - claim.startedAtSeconds) <=
        START_TOLERANCE_SECONDS;
  if (isSame) return adoptPostmaster({ pid: claim.pid, startToken, clock, privileges });
  throw new AppError(
    'instance_failed',
    `process ${claim.pid} in ${dataDirectory} is not the one that was started`,
    {
      hint: 'end that process; the instance is then started anew',
    },
  );
}

/**
 * Removes the claim of a server that is gone, once nothing of it runs any more. Postgres does so itself, but takes any
 * process of the same user that has got the pid for the server.
 * @throws AppError `instance_failed` when what it left running does not end
 */
export async function clearStaleClaim(options: {
  dataDirectory: string;
  clock: Clock;
  privileges: Privileges;
  signal: AbortSignal;
}): Promise<void> {
  const { dataDirectory, privileges } = options;
  const path = join(dataDirectory, POSTMASTER_PID_NAME);
  if (!(await isPresent(path))) return;
  await endLeftovers(options);
  await privileges.removeFiles(dataDirectory, [POSTMASTER_PID_NAME]);
}

/** A record that cannot be read is as good as none: the server's own note decides then. */
async function readProcessRecord(clusterDirectory: string): Promise<ProcessRecord | undefined> {
  try {
    return await readRecord(PROCESS_FORMAT, join(clusterDirectory, RECORD_FILE));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || isAppError(error, 'data_corrupt', 'format_unsupported'))
      return undefined;
    throw error;
  }
}
