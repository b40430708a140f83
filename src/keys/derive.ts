/** Keys from passphrases, made in a process of their own: scrypt takes 64 MiB or more, which the daemon does not have to spare. */
import { fileURLToPath } from 'node:url';
import { AppError, Semaphore } from '../base/index.ts';

const SCRIPT = fileURLToPath(new URL('./derive-process.ts', import.meta.url));

/** Each takes 64 MiB and a processor: whoever asks for more at once waits, however many ask. */
const AT_ONCE_MAX = 2;

const places = new Semaphore(AT_ONCE_MAX);

/** How a passphrase becomes a key: scrypt with N = 2^logN. */
export interface KdfParameters {
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}

export interface DeriveRequest {
  readonly passphrase: string;
  readonly salt: Uint8Array;
  readonly kdf: KdfParameters;
  /** Of the key, in bytes. */
  readonly length: number;
}

/**
 * The passphrase travels over the process's private channel only, and nothing of our environment comes with it but where compiled code is kept.
 * Resolves when the process has ended. @throws AppError `worker_lost` when the process ends without a key
 */
export function deriveKeyOf(request: DeriveRequest): Promise<Uint8Array> {
  return places.run(() => derive(request), { signal: new AbortController().signal });
}

async function derive(request: DeriveRequest): Promise<Uint8Array> {
  const cache = process.env['NODE_COMPILE_CACHE'];
  const { spawn } = await import('node:child_process');
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SCRIPT], {
    env: cache === undefined ? {} : { NODE_COMPILE_CACHE: cache },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    serialization: 'advanced',
  });
  let key: Uint8Array | null = null;
  const ended = Promise.withResolvers<string>();
  child.once('message', (answer: Uint8Array) => (key = answer));
  child.once('error', (error) => ended.resolve(String(error)));
  child.once('close', (code, killedBy) => ended.resolve(killedBy ?? `exit code ${code}`));
  // One that has ended says so by its end.
  child.send(request, () => undefined);
  const how = await ended.promise;
  if (key !== null) return key;
  throw new AppError('worker_lost', `the process that makes a passphrase a key ended unexpectedly (${how})`, {
    hint: 'try again; if it happens again, look for a lack of memory',
  });
}
