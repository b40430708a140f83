/** `<store>/vc/<id>/identity.json`: what a virtual cluster's folder says of itself. */
import { join } from 'node:path';
import { z } from 'zod';
import {
  CorruptError,
  formatLsn,
  type IncarnationId,
  type Lsn,
  parseIncarnationId,
  parseLsn,
  parseVirtualClusterName,
  type VirtualClusterId,
} from '../base/index.ts';
import type { InstanceIdentity } from './contract.ts';
import { type RecordFormat, readRecord, writeRecord } from './sealed-record.ts';

const IDENTITY_FILE = 'identity.json';

const bodySchema = z.strictObject({
  virtualClusterId: z.int().positive(),
  virtualClusterName: z.string(),
  incarnation: z.string(),
  parentIncarnation: z.string().nullable(),
  forkLsn: z.string().nullable(),
  systemIdentifier: z.string().regex(/^[1-9]\d{0,19}$/),
  engineMajor: z.int().positive(),
  uid: z.int().positive().nullable(),
});

export const IDENTITY_FORMAT: RecordFormat<z.infer<typeof bodySchema>> = {
  format: 'atoll-identity',
  version: 1,
  body: bodySchema,
};

/** Replaces the record of a virtual cluster's folder; durable when it returns. */
export async function writeIdentity(clusterDirectory: string, identity: InstanceIdentity): Promise<void> {
  await writeRecord(IDENTITY_FORMAT, {
    path: join(clusterDirectory, IDENTITY_FILE),
    mode: 0o600,
    body: {
      virtualClusterId: identity.virtualClusterId,
      virtualClusterName: identity.virtualClusterName,
      incarnation: identity.incarnation,
      parentIncarnation: identity.parentIncarnation,
      forkLsn: identity.forkLsn === null ? null : formatLsn(identity.forkLsn),
      systemIdentifier: identity.systemIdentifier.toString(),
      engineMajor: identity.engineMajor,
      uid: identity.uid,
    },
  });
}

/** @throws CorruptError, AppError `format_unsupported`, and with errno `ENOENT` when there is none */
export async function readIdentity(clusterDirectory: string): Promise<InstanceIdentity> {
  const path = join(clusterDirectory, IDENTITY_FILE);
  const body = await readRecord(IDENTITY_FORMAT, path);
  try {
    return {
      virtualClusterId: body.virtualClusterId as VirtualClusterId,
      virtualClusterName: parseVirtualClusterName(body.virtualClusterName),
      incarnation: parseIncarnationId(body.incarnation),
      parentIncarnation: parseNullable<IncarnationId>(body.parentIncarnation, parseIncarnationId),
      forkLsn: parseNullable<Lsn>(body.forkLsn, parseLsn),
      systemIdentifier: BigInt(body.systemIdentifier),
      engineMajor: body.engineMajor,
      uid: body.uid,
    };
  } catch (error) {
    throw new CorruptError(`${path} has unexpected content`, { cause: error });
  }
}

function parseNullable<T>(text: string | null, parse: (text: string) => T): T | null {
  return text === null ? null : parse(text);
}
