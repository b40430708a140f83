/**
 * Small servers that speak the APIs of the services for keys as far as the drivers use them, for the real client libraries: they check who
 * asks, wrap with real keys, and refuse what the services refuse. Sources: AWS KMS API Reference and "Signature Version 4"; Cloud KMS REST
 * reference; Azure Key Vault REST API reference.
 */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  generateKeyPairSync,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { PassThroughClient } from 'google-auth-library';
import { crc32c } from '../../src/pg/index.ts';
import { TestAuthority } from './certificates.ts';

interface Answer {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body: object;
}

/** What the servers share: listening, reading, failing when told to. */
export abstract class KmsServer implements AsyncDisposable {
  /** The next requests are answered with this status instead of being served. */
  failures: number[] = [];
  requests = 0;
  /** Called when a request comes, which is then never answered. */
  hold: (() => void) | undefined;
  #server: Server | undefined;

  protected abstract serve(request: IncomingMessage, body: Buffer): Answer;
  protected abstract failure(status: number): Answer;

  protected async listen(server: Server): Promise<void> {
    this.#server = server;
    server.on('request', (request, response) => void this.#answer(request, response));
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  }

  get port(): number {
    const address = this.#server?.address();
    if (address === null || address === undefined || typeof address === 'string')
      throw new Error('not listening');
    return address.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((done) => this.#server?.close(done));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = Buffer.concat(await Array.fromAsync(request as AsyncIterable<Buffer>));
    this.requests += 1;
    if (this.hold !== undefined) return this.hold();
    const failed = this.failures.shift();
    const answer = failed === undefined ? this.serve(request, body) : this.failure(failed);
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers });
    response.end(JSON.stringify(answer.body));
  }
}

/** AES-256-GCM with the context bound, under a key that knows only this server. */
class SymmetricKey {
  readonly #key = randomBytes(32);

  wrap(plain: Buffer, context: string): Buffer {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(context));
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** Null for what it has not wrapped. */
  unwrap(wrapped: Buffer, context: string): Buffer | null {
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#key, wrapped.subarray(0, 12));
      decipher.setAAD(Buffer.from(context)).setAuthTag(wrapped.subarray(-16));
      return Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()]);
    } catch {
      return null;
    }
  }
}

const ACCESS_KEY = 'AKIATEST';
const SECRET_KEY = 'awsSecretOfTheTest';

/** AWS KMS in one region, with the keys that it is told of. */
export class AwsKmsServer extends KmsServer {
  readonly #keys = new Map<string, SymmetricKey>();

  static async start(...names: readonly string[]): Promise<AwsKmsServer> {
    const server = new AwsKmsServer();
    for (const name of names) server.#keys.set(name, new SymmetricKey());
    await server.listen(createServer());
    return server;
  }

  /** The URI of a key, with credentials; further parameters take the place of the usual. */
  uri(name: string, parameters: Readonly<Record<string, string>> = {}): string {
    const query = new URLSearchParams({
      AUTH: 'specified',
      REGION: 'eu-test-1',
      AWS_ACCESS_KEY_ID: ACCESS_KEY,
      AWS_SECRET_ACCESS_KEY: SECRET_KEY,
      AWS_ENDPOINT: `http://127.0.0.1:${this.port}`,
      ...parameters,
    });
    return `aws-kms:///${name}?${query.toString()}`;
  }

  /** As when an administrator deletes it. */
  remove(name: string): void {
    this.#keys.delete(name);
  }

  protected failure(status: number): Answer {
    return { status, body: { __type: status === 403 ? 'AccessDeniedException' : 'KMSInternalException' } };
  }

  protected serve(request: IncomingMessage, body: Buffer): Answer {
    const refused = (word: string, status = 400): Answer => ({ status, body: { __type: word } });
    if (!isSigned(request, body)) return refused('InvalidSignatureException', 403);
    const asked = JSON.parse(body.toString()) as Record<string, unknown>;
    const key = this.#keys.get(String(asked['KeyId']));
    if (key === undefined) return refused('NotFoundException');
    const context = JSON.stringify(asked['EncryptionContext'] ?? {});
    const bytes = (name: string) => Buffer.from(String(asked[name]), 'base64');
    switch (request.headers['x-amz-target']) {
      case 'TrentService.Encrypt': {
        const CiphertextBlob = key.wrap(bytes('Plaintext'), context).toString('base64');
        return { status: 200, body: { KeyId: asked['KeyId'], CiphertextBlob } };
      }
      case 'TrentService.Decrypt': {
        const plain = key.unwrap(bytes('CiphertextBlob'), context);
        if (plain === null) return refused('InvalidCiphertextException');
        return { status: 200, body: { KeyId: asked['KeyId'], Plaintext: plain.toString('base64') } };
      }
      default:
        return refused('UnknownOperationException');
    }
  }
}

/** Checks a signature of version 4. */
function isSigned(request: IncomingMessage, body: Buffer): boolean {
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d+)\/([^/]+)\/kms\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)$/.exec(
      request.headers.authorization ?? '',
    );
  const [, accessKey, day = '', region = '', names = '', signature] = match ?? [];
  if (accessKey !== ACCESS_KEY) return false;
  const headers = names.split(';').map((name) => `${name}:${String(request.headers[name] ?? '').trim()}\n`);
  const hash = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
  const canonical = [request.method, request.url, '', headers.join(''), names, hash(body)].join('\n');
  const scope = `${day}/${region}/kms/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, hash(canonical)].join('\n');
  const key = [day, region, 'kms', 'aws4_request'].reduce<Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    Buffer.from(`AWS4${SECRET_KEY}`),
  );
  return createHmac('sha256', key).update(toSign).digest('hex') === signature;
}

/** Google Cloud KMS. Credentials are nobody's, unless a token is asked for: see `authClient`. */
export class GcpKmsServer extends KmsServer {
  /** What who asks has to bring; null while everybody may. */
  token: string | null = null;
  readonly #keys = new Map<string, SymmetricKey>();
  /** Damages the next answer on its way. */
  damagesNext = false;

  static async start(...names: readonly string[]): Promise<GcpKmsServer> {
    const server = new GcpKmsServer();
    for (const name of names) server.#keys.set(name, new SymmetricKey());
    await server.listen(createServer());
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The URI of a key, for the rights of the node. */
  uri(name: string): string {
    return `gcp-kms:///${name}?AUTH=implicit&GS_ENDPOINT=${encodeURIComponent(this.endpoint)}`;
  }

  get authClient(): PassThroughClient {
    return new PassThroughClient();
  }

  protected failure(status: number): Answer {
    return {
      status,
      body: { error: { code: status, status: status === 403 ? 'PERMISSION_DENIED' : 'UNAVAILABLE' } },
    };
  }

  protected serve(request: IncomingMessage, body: Buffer): Answer {
    const [, name = '', method = ''] =
      /^\/v1\/(.+):(encrypt|decrypt)$/.exec(decodeURIComponent(request.url ?? '')) ?? [];
    const refused = (status: number, word: string): Answer => ({
      status,
      body: { error: { code: status, status: word } },
    });
    if (this.token !== null && request.headers.authorization !== `Bearer ${this.token}`)
      return refused(401, 'UNAUTHENTICATED');
    const key = this.#keys.get(name);
    if (key === undefined || request.method !== 'POST') return refused(404, 'NOT_FOUND');
    const asked = JSON.parse(body.toString()) as Record<string, string>;
    const bytes = (field: string) => Buffer.from(asked[field] ?? '', 'base64');
    for (const field of ['plaintext', 'ciphertext', 'additionalAuthenticatedData']) {
      const checksum = asked[`${field}Crc32c`];
      const isWrong = checksum !== undefined && checksum !== String(crc32c(bytes(field)));
      if (isWrong) return refused(400, 'INVALID_ARGUMENT');
    }
    const context = bytes('additionalAuthenticatedData').toString();
    const result =
      method === 'encrypt' ? key.wrap(bytes('plaintext'), context) : key.unwrap(bytes('ciphertext'), context);
    if (result === null) return refused(400, 'INVALID_ARGUMENT');
    const checksum = String(crc32c(result));
    if (this.damagesNext) result[0] = (result[0] ?? 0) ^ 1;
    this.damagesNext = false;
    const text = result.toString('base64');
    return {
      status: 200,
      body:
        method === 'encrypt'
          ? {
              name: `${name}/cryptoKeyVersions/1`,
              ciphertext: text,
              ciphertextCrc32c: checksum,
              verifiedPlaintextCrc32c: asked['plaintextCrc32c'] !== undefined,
              verifiedAdditionalAuthenticatedDataCrc32c: true,
            }
          : { plaintext: text, plaintextCrc32c: checksum },
    };
  }
}

/** What Azure Key Vault wants to be shown. */
export const AZURE_TOKEN = 'token-of-the-test';

/** Azure Key Vault with one RSA key, over TLS: its library sends tokens over nothing else. */
export class AzureKmsServer extends KmsServer {
  readonly key = 'wrapping';
  readonly version = '0123456789abcdef0123456789abcdef';
  readonly credential = {
    getToken: async () => ({ token: this.token, expiresOnTimestamp: Date.now() + 3_600_000 }),
  };
  /** What the credential gives. */
  token = AZURE_TOKEN;
  readonly #pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
  authority = '';

  static async start(): Promise<AzureKmsServer> {
    const server = new AzureKmsServer();
    const authority = await TestAuthority.make();
    const { certificate, key } = await authority.node();
    server.authority = authority.certificate;
    await server.listen(createTlsServer({ cert: certificate, key }) as unknown as Server);
    return server;
  }

  get endpoint(): string {
    return `https://localhost:${this.port}`;
  }

  /** The URI of the key, for the rights of the node. */
  get uri(): string {
    const endpoint = encodeURIComponent(this.endpoint);
    return `azure-kms:///${this.key}/${this.version}?AZURE_VAULT_NAME=vault&AUTH=implicit&AZURE_ENDPOINT=${endpoint}`;
  }

  protected failure(status: number): Answer {
    return { status, body: { error: { code: status === 403 ? 'Forbidden' : 'InternalServerError' } } };
  }

  protected serve(request: IncomingMessage, body: Buffer): Answer {
    const challenge =
      'Bearer authorization="https://login.microsoftonline.com/test", resource="https://vault.azure.net"';
    if (request.headers.authorization === undefined) {
      return {
        status: 401,
        headers: { 'www-authenticate': challenge },
        body: { error: { code: 'Unauthorized' } },
      };
    }
    if (request.headers.authorization !== `Bearer ${AZURE_TOKEN}`) return this.failure(403);
    const url = new URL(request.url ?? '', this.endpoint);
    const path = `/keys/${this.key}/${this.version}`;
    const kid = `${this.endpoint}${path}`;
    if (request.method === 'GET' && url.pathname === path) {
      const { n, e } = this.#pair.publicKey.export({ format: 'jwk' });
      const key = { kid, kty: 'RSA', key_ops: ['wrapKey', 'unwrapKey'], n, e };
      return { status: 200, body: { key, attributes: { enabled: true } } };
    }
    const refused = (status: number, code: string): Answer => ({ status, body: { error: { code } } });
    if (request.method !== 'POST') return refused(404, 'KeyNotFound');
    const { alg, value } = JSON.parse(body.toString()) as { alg: string; value: string };
    if (alg !== 'RSA-OAEP-256') return refused(400, 'BadParameter');
    const options = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
    const given = Buffer.from(value, 'base64url');
    const answer = (result: Buffer): Answer => ({
      status: 200,
      body: { kid, value: result.toString('base64url') },
    });
    if (url.pathname === `${path}/wrapkey`) {
      return answer(publicEncrypt({ key: this.#pair.publicKey, ...options }, given));
    }
    if (url.pathname !== `${path}/unwrapkey`) return refused(404, 'KeyNotFound');
    try {
      return answer(privateDecrypt({ key: this.#pair.privateKey, ...options }, given));
    } catch {
      return refused(400, 'BadParameter');
    }
  }
}
