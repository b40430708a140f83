/** Certificates as `atoll cert` makes them, for tests. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Issued, issueAuthority, issueClient, issueNode } from '../../src/cli/cert/issue.ts';
import type { TlsMaterial } from '../../src/frontdoor/index.ts';

const HOUR_MS = 3_600_000;
const KEY_BITS = 2_048;

/** Texts (PEM) of a certificate and its key. */
export interface PemPair {
  readonly certificate: string;
  readonly key: string;
}

function pem({ certificatePem, key }: Issued): PemPair {
  return { certificate: certificatePem, key: key.export({ format: 'pem', type: 'pkcs8' }).toString() };
}

/** A CA of a test's own. */
export class TestAuthority {
  readonly certificate: string;
  readonly #key: string;

  private constructor({ certificate, key }: PemPair) {
    this.certificate = certificate;
    this.#key = key;
  }

  static async make(): Promise<TestAuthority> {
    const issued = await issueAuthority({ nowMs: Date.now(), lifetimeMs: 48 * HOUR_MS, keyBits: KEY_BITS });
    return new TestAuthority(pem(issued));
  }

  get #authority() {
    return { certificate: new X509Certificate(this.certificate), key: createPrivateKey(this.#key) };
  }

  async node(hosts: readonly string[] = ['localhost', '127.0.0.1']): Promise<PemPair> {
    const validity = { nowMs: Date.now(), lifetimeMs: HOUR_MS, keyBits: KEY_BITS };
    return pem(await issueNode({ ...validity, authority: this.#authority, hosts }));
  }

  /** A negative life has ended that long ago. */
  async client(user: string, { lifetimeMs = HOUR_MS } = {}): Promise<PemPair> {
    const validity = { nowMs: Date.now(), lifetimeMs, keyBits: KEY_BITS };
    return pem(await issueClient({ ...validity, authority: this.#authority, user }));
  }

  async material(): Promise<TlsMaterial> {
    return { ...(await this.node()), clientAuthorities: this.certificate };
  }
}

/** Writes files as psql and a node want them. */
export async function writeCertificates(
  directory: string,
  files: Readonly<Record<string, PemPair | string>>,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    if (typeof content === 'string') {
      await writeFile(join(directory, name), content);
      continue;
    }
    await writeFile(join(directory, `${name}.crt`), content.certificate);
    await writeFile(join(directory, `${name}.key`), content.key, { mode: 0o600 });
    await chmod(join(directory, `${name}.key`), 0o600);
  }
}
