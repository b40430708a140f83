/** CHECK EXTERNAL CONNECTION, and the short check of a storage location before it is given a name. */
import { AppError, InputError, isAppError, toError } from '../../base/index.ts';
import { type BlobKey, type BlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import {
  type SettingType,
  decodeSettingValue,
  parseSettingInput,
  printByteSize,
} from '../../catalog/index.ts';
import { DATA_KEY_BYTES } from '../../keys/index.ts';
import { openKmsKey, parseKmsUri } from '../../kms/index.ts';
import type { Option, Statement } from '../../sql/index.ts';
import { type CollectionLocation, openCollectionStore } from '../../timeline/index.ts';
import { openCollection } from '../backup/collection.ts';
import type { Core } from '../core.ts';
import { type UseCase, boolCell, columnsOf, rowsResult } from '../use-case.ts';
import { textValue } from '../values.ts';

type Check = Extract<Statement, { kind: 'check_external_connection' }>;

const COLUMNS = columnsOf({
  node: 'int8',
  locality: 'text',
  ok: 'bool',
  error: 'text',
  transferred: 'text',
  read_speed: 'text',
  write_speed: 'text',
  can_delete: 'bool',
});

/** The name that administrators know from the original, with something random behind it: checks may meet. */
const PROBE = 'crdb_external_storage_location';
const PROBE_BYTES = 64;
const CHUNK_BYTES = 1 << 20;
const TRANSFER: SettingType = { kind: 'byte_size', min: 1n, max: 1n << 34n };
const CONCURRENTLY: SettingType = { kind: 'int', min: 1n, max: 64n };
const TIME: SettingType = { kind: 'duration', minUs: 0n, maxUs: 3_600_000_000n };

/**
 * Has a key wrap something and unwrap it again, as a backup and a restore would.
 * @throws AppError `kms_refused`; `kms_unavailable`, also when there is no answer for `msMax` milliseconds
 */
export async function probeKms(
  core: Core,
  { uri, msMax }: { readonly uri: string; readonly msMax: number },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const key = openKmsKey(parseKmsUri(uri), core.options);
  const secret = core.options.rng.bytes(DATA_KEY_BYTES);
  const limit = AbortSignal.timeout(msMax);
  const options = { signal: AbortSignal.any([signal, limit]) };
  try {
    const unwrapped = await key.unwrap(await key.wrap(secret, options), options);
    if (Buffer.compare(unwrapped, secret) === 0) return;
  } catch (error) {
    if (signal.aborted || !limit.aborted) throw error;
    throw new AppError('kms_unavailable', `KMS key ${key.displayUri} does not answer`, { cause: error });
  }
  throw new AppError('kms_refused', `KMS key ${key.displayUri} gives back another secret than it was given`);
}

/**
 * Writes, reads, lists and deletes a small object.
 * @throws AppError naming the location when one of that cannot be done
 */
export async function probeStorage(
  core: Core,
  location: CollectionLocation,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const store = storeOf(core, location);
  const key = probeKey(core);
  const content = core.options.rng.bytes(PROBE_BYTES);
  await store.put(key, content, { signal });
  try {
    const read = await readBlob(store, key, { bytesMax: PROBE_BYTES, signal });
    if (Buffer.compare(read, content) !== 0) {
      throw new AppError('data_corrupt', `${store.displayUri} gives back other bytes than were written`);
    }
    if (!(await isListed(store, key, signal))) {
      throw new AppError('io', `${store.displayUri} does not list what was written`);
    }
  } finally {
    await store.delete(key, { signal: core.signal }).catch((error: unknown) => {
      // Backups need no right to delete: in a locked bucket the small object stays.
      if (!isAppError(error, 'storage_refused')) throw error;
    });
  }
}

export const checkExternalConnection: UseCase<Check> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { options } = statement;
    const transferBytes = Number(option(options, { name: 'transfer', type: TRANSFER, fallback: '32MiB' }));
    const count = Number(option(options, { name: 'concurrently', type: CONCURRENTLY, fallback: '1' }));
    const durationMs = Number(option(options, { name: 'time', type: TIME, fallback: '0s' }) / 1000n);
    const location = await openCollection(core, [statement.uri], context);
    const runs = Array.from({ length: count }, () =>
      transferRepeatedly(core, { location, transferBytes, durationMs, signal: context.signal }),
    );
    const results = await Promise.all(runs);
    const error = results.find((result) => result.error !== undefined)?.error;
    const sum = (of: (result: Transfer) => number) =>
      results.reduce((total, result) => total + of(result), 0);
    const writtenBytes = sum((result) => result.bytes);
    return rowsResult(COLUMNS, [
      [
        String(core.options.nodeId),
        '',
        boolCell(error === undefined),
        error ?? null,
        printByteSize(BigInt(writtenBytes)),
        speed(writtenBytes, Math.max(...results.map(({ readMs }) => readMs))),
        speed(writtenBytes, Math.max(...results.map(({ writeMs }) => writeMs))),
        boolCell(results.every(({ canDelete }) => canDelete)),
      ],
    ]);
  },
};

interface Transfer {
  bytes: number;
  writeMs: number;
  readMs: number;
  canDelete: boolean;
  error: string | undefined;
}

/** What goes wrong is the answer of a check, not its failure; only a cancelled check has none. */
async function transferRepeatedly(
  core: Core,
  options: { location: CollectionLocation; transferBytes: number; durationMs: number; signal: AbortSignal },
): Promise<Transfer> {
  const { clock } = core.options;
  const result: Transfer = { bytes: 0, writeMs: 0, readMs: 0, canDelete: true, error: undefined };
  const endMs = clock.monotonicMs() + options.durationMs;
  try {
    do await transferOnce(core, options, result);
    while (clock.monotonicMs() < endMs);
  } catch (error) {
    if (!isAppError(error) || isAppError(error, 'cancelled')) throw error;
    result.error = toError(error).message;
  }
  return result;
}

async function transferOnce(
  core: Core,
  options: { location: CollectionLocation; transferBytes: number; signal: AbortSignal },
  result: Transfer,
): Promise<void> {
  const { transferBytes, signal } = options;
  const { clock } = core.options;
  const store = storeOf(core, options.location);
  const key = probeKey(core);
  try {
    const beganMs = clock.monotonicMs();
    await store.put(key, chunks(core, transferBytes), { signal });
    const writtenMs = clock.monotonicMs();
    let readBytes = 0;
    for await (const chunk of store.get(key, { signal })) readBytes += chunk.length;
    result.writeMs += writtenMs - beganMs;
    result.readMs += clock.monotonicMs() - writtenMs;
    result.bytes += readBytes;
    if (!(await isListed(store, key, signal))) throw new AppError('io', `${store.displayUri} lists nothing`);
  } finally {
    await store.delete(key, { signal: core.signal }).catch(() => {
      result.canDelete = false;
    });
  }
}

/** One random piece, repeated: making random bytes must not be what is measured. */
async function* chunks(core: Core, bytes: number): AsyncIterable<Uint8Array> {
  const piece = core.options.rng.bytes(Math.min(CHUNK_BYTES, bytes));
  for (let left = bytes; left > 0; left -= piece.length) {
    yield left < piece.length ? piece.subarray(0, left) : piece;
  }
}

async function isListed(store: BlobStore, key: BlobKey, signal: AbortSignal): Promise<boolean> {
  for await (const entry of store.list('', { deep: false, signal })) if (entry.key === key) return true;
  return false;
}

function storeOf(core: Core, location: CollectionLocation): BlobStore {
  return openCollectionStore(location, core.options);
}

function probeKey(core: Core): BlobKey {
  return parseBlobKey(`${PROBE}-${Buffer.from(core.options.rng.bytes(8)).toString('hex')}`);
}

function speed(bytes: number, ms: number): string {
  return `${printByteSize(BigInt(Math.round((bytes * 1000) / Math.max(ms, 1))))}/s`;
}

/** @throws InputError `parameter_invalid` */
function option(
  options: readonly Option[],
  wanted: { name: string; type: SettingType; fallback: string },
): bigint {
  const { name, type } = wanted;
  const given = options.find((each) => each.name === name)?.value;
  const text = given !== undefined && 'kind' in given ? textValue(given, name) : wanted.fallback;
  const value = decodeSettingValue(type, parseSettingInput(type, { text, form: 'string' }));
  if (typeof value !== 'bigint') throw new InputError('parameter_invalid', `${name} must be a number`);
  return value;
}
